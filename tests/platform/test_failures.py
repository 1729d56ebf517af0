"""Every way in which a request can fail becomes exactly one error of ours, with the effect that it may have had."""

from __future__ import annotations

import inspect
import json

import httpx2
import pytest

from ringfence.errors import (
    Conflict,
    Denied,
    Effect,
    Invalid,
    NotFound,
    NotSent,
    PlatformError,
    Throttled,
    Unanswered,
)
from ringfence.platform.kubernetes import failures

EXCEPTIONS = sorted(
    (
        kind
        for _, kind in inspect.getmembers(httpx2, inspect.isclass)
        if issubclass(kind, httpx2.HTTPError) and kind is not httpx2.HTTPStatusError
    ),
    key=lambda kind: kind.__name__,
)
NEVER_SENT = {"ConnectError", "ConnectTimeout", "PoolTimeout", "ProxyError", "UnsupportedProtocol"}


def status_body(message: str, code: int = 403) -> bytes:
    return json.dumps({"kind": "Status", "status": "Failure", "message": message, "code": code}).encode()


def response(status: int, body: bytes = b"", **headers: str) -> PlatformError:
    return failures.from_response(
        status,
        body,
        httpx2.Headers({name.replace("_", "-"): value for name, value in headers.items()}),
        verb="patch",
        target="pods/cards-1 in bank",
        audit_id="a-1",
    )


@pytest.mark.parametrize("kind", EXCEPTIONS, ids=lambda kind: kind.__name__)
def test_an_exception_of_the_client_says_whether_the_write_may_have_happened(kind: type[Exception]) -> None:
    error = failures.from_exception(
        kind("went wrong"),
        verb="patch",
        target="pods/cards-1 in bank",
        audit_id="a-1",
        server="https://api.test",
    )
    if kind.__name__ in NEVER_SENT:
        assert type(error) is NotSent
        assert error.effect is Effect.NONE
        assert "https://api.test" in error.what
    else:
        assert type(error) is Unanswered
        assert error.effect is Effect.MAYBE
    assert (error.why, error.audit_id, error.verb, error.status) == ("went wrong", "a-1", "patch", None)
    assert error.next_step


def test_the_walk_has_seen_the_clients_exceptions() -> None:
    names = {kind.__name__ for kind in EXCEPTIONS}
    assert names >= NEVER_SENT | {"ReadTimeout", "WriteTimeout", "ReadError", "WriteError", "RemoteProtocolError"}


def test_an_exception_without_words_is_named() -> None:
    error = failures.from_exception(httpx2.ReadTimeout(""), verb="get", target="x", audit_id="", server="s")
    assert error.why == "ReadTimeout"


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (301, Invalid),
        (302, Invalid),
        (400, Invalid),
        (401, Denied),
        (404, NotFound),
        (405, Invalid),
        (408, Invalid),
        (409, Conflict),
        (410, NotFound),
        (413, Invalid),
        (415, Invalid),
        (422, Invalid),
        (429, Throttled),
        (500, Unanswered),
        (502, Unanswered),
        (503, Unanswered),
        (504, Unanswered),
        (599, Unanswered),
    ],
)
@pytest.mark.parametrize("body", [b"", b"<html>", b"null", b"[1]", b'{"kind": "Pod"}', status_body("the reason")])
def test_each_status_has_its_error_whatever_the_body(status: int, kind: type[PlatformError], body: bytes) -> None:
    error = response(status, body)
    if kind is NotFound and b"Status" not in body:
        kind = Unanswered  # a proxy's page does not say that an object is gone
    assert type(error) is kind
    assert error.effect is (Effect.MAYBE if kind is Unanswered else Effect.NONE)
    assert error.status == status
    assert error.next_step
    assert str(status) in error.why


@pytest.mark.parametrize(
    "message",
    [
        'pods is forbidden: User "bob" cannot list resource "pods" in API group "" in the namespace "bank"',
        'forbidden: User "system:anonymous" cannot get path "/api"',
        'users "eve" is forbidden: User "bo\\"b" cannot impersonate resource "users" in API group ""',
        'pods "x" is forbidden: User "bob" cannot patch resource "pods" in API group "": RBAC: role not found',
    ],
)
def test_a_403_of_the_authoriser_is_denied(message: str) -> None:
    assert type(response(403, status_body(message))) is Denied


@pytest.mark.parametrize(
    "message",
    [
        'admission webhook "validate.kyverno.svc-fail" denied the request: labels are required',
        'admission webhook "guard" denied the request: User "bob" cannot remove labels',
        'pods "x" is forbidden: violates PodSecurity "restricted:latest": privileged',
        'pods "x" is forbidden: exceeded quota: compute, requested: pods=1, used: pods=10, limited: pods=10',
        'pods "x" is forbidden: ValidatingAdmissionPolicy "p" with binding "b" denied request: User must not',
        "pods is forbidden: unable to create new content in namespace bank because it is being terminated",
    ],
)
def test_a_403_of_admission_is_about_the_content(message: str) -> None:
    error = response(403, status_body(message))
    assert type(error) is Invalid
    assert message in error.why


@pytest.mark.parametrize("body", [b"", b"<html>Forbidden</html>", b'{"error": "forbidden"}'])
def test_a_403_that_is_not_the_api_servers_is_denied(body: bytes) -> None:
    assert type(response(403, body)) is Denied


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("1", 1.0),
        ("0", 0.0),
        ("2.5", 2.5),
        ("Wed, 21 Oct 2026 07:28:00 GMT", None),
        ("", None),
        ("-1", None),
        ("inf", None),
        ("nan", None),
        ("1e999", None),
    ],
)
def test_retry_after_is_a_time_that_one_can_wait(value: str, seconds: float | None) -> None:
    error = response(429, b"", retry_after=value)
    assert isinstance(error, Throttled)
    assert error.retry_after == seconds


def test_without_retry_after_nothing_is_said_about_it() -> None:
    error = response(429)
    assert isinstance(error, Throttled)
    assert error.retry_after is None


@pytest.mark.parametrize(
    "body",
    [b"\xff\xfe\x00 not text", b"[" * 60_000, b'{"kind": "Status", "message": 7}', b'{"kind": "Status"}', b"\x00" * 9],
)
def test_a_hostile_body_breaks_nothing(body: bytes) -> None:
    error = response(500, body)
    assert type(error) is Unanswered
    assert len(error.why) < 1000


def test_a_long_page_is_quoted_in_short() -> None:
    assert len(response(502, b"<html>" + b"x" * 60_000).why) < 400
