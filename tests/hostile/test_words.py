"""The functions that make text harmless, on the table and on whatever hypothesis finds."""

from __future__ import annotations

import json
import re

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringfence.cli.text import clean, lines, typed
from ringfence.errors import PlatformError
from ringfence.evidence.acquire import name_part
from ringfence.platform.kubernetes import failures
from ringfence.reporting.text import LONGEST, visible
from ringfence.seal.manifest import Tool
from tests.hostile.texts import HOSTILE, as_received, harm

anything = st.text(st.characters())  # surrogates and unassigned code points too
marks = st.lists(st.sampled_from([*"a\u0301\u0489\u0e49\u05b0\u20dd\ufe0f\u200d "])).map("".join)


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_text_becomes_one_harmless_line_of_bounded_length(text: str) -> None:
    shown = clean(text)
    assert harm(shown) == []
    assert "\n" not in shown
    assert len(shown) <= 10 * LONGEST + 40, "an escape has ten characters at most"


@given(anything | marks)
def test_any_text_becomes_one_harmless_line(text: str) -> None:
    for shown in (clean(text), visible(text), clean(text, longest=None)):
        assert harm(shown) == []
        assert len(shown.splitlines()) <= 1
    assert clean(clean(text)) == clean(text), "what is clean stays as it is"


@given(st.text(st.characters(categories=("L", "N", "P", "S"), max_codepoint=0x2FF)))
def test_plain_text_stays_as_it_is(text: str) -> None:
    assert clean(text) == text


def test_what_is_left_out_is_counted() -> None:
    assert clean("x" * (LONGEST + 9)).endswith(" … (9 characters more)")
    assert clean("x" * (LONGEST + 9), longest=None) == "x" * (LONGEST + 9)


@given(st.lists(st.binary(max_size=40)))
def test_lines_lose_nothing_however_the_bytes_arrive(chunks: list[bytes]) -> None:
    whole = b"".join(chunks)
    found = list(lines(chunks))
    assert "\n".join(found) == whole.removesuffix(b"\n").decode("utf-8", "backslashreplace")


def test_a_line_without_an_end_is_not_kept_in_memory() -> None:
    longest = max(len(line) for line in lines(b"x" * (1 << 16) for _ in range(80)))
    assert longest <= 1 << 20


@given(st.binary(max_size=40))
def test_what_is_typed_is_unicode(typed_bytes: bytes) -> None:
    argument = typed_bytes.decode("utf-8", "surrogateescape")  # as Python makes sys.argv
    typed(argument).encode()
    if argument.isascii():
        assert typed(argument) == argument


@given(anything)
def test_a_part_of_an_items_id_is_a_name_of_the_bundles_format(text: str) -> None:
    part = name_part(text)
    Tool(name=part, version="1")
    assert re.fullmatch("[!-~]{1,256}", part)
    assert "/" not in part


@given(anything, anything)
def test_two_names_stay_two(one: str, other: str) -> None:
    assert (name_part(one) == name_part(other)) == (one == other)


@given(
    status=st.integers(300, 599),
    body=st.binary(max_size=300) | anything.map(lambda text: json.dumps({"kind": "Status", "message": text}).encode()),
    retry=st.none() | st.text(st.characters(max_codepoint=127, categories=("L", "N", "P")), max_size=20),
)
def test_any_answer_is_an_error_of_ours(status: int, body: bytes, retry: str | None) -> None:
    headers = httpx2.Headers({"retry-after": retry} if retry is not None else {})
    error = failures.from_response(status, body, headers, verb="get", target="pods/x", audit_id="")
    assert isinstance(error, PlatformError)
    assert len(error.why) < 2200
    assert error.next_step


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 410, 422, 429, 500, 503])
def test_a_servers_words_are_kept_and_bounded(text: str, status: int) -> None:
    body = json.dumps({"kind": "Status", "apiVersion": "v1", "message": text, "code": status}).encode()
    error = failures.from_response(status, body, httpx2.Headers(), verb="create", target="x", audit_id="a")
    assert error.status == status
    assert len(str(error)) < 2300
    str(error).encode()
    if 0 < len(text) < 2000:
        assert as_received(text) in error.why


CREDENTIALS = {
    "bearer": "Authorization: Bearer abcdefghij.0123456789-abcdef",
    "basic": "authorization: basic YWxpY2U6dmVyeXNlY3JldA==",
    "web token": "x eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJzeXN0ZW0ifQ.c2lnbmF0dXJl y",
    "key": "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEE\n-----END EC PRIVATE KEY-----",
    "half a key": "-----BEGIN PRIVATE KEY-----\nMHcCAQEE",
}
SECRET = re.compile("abcdefghij|YWxpY2|c2lnbmF0|eyJzdWI|MHcCAQ")


@pytest.mark.parametrize("text", CREDENTIALS.values(), ids=CREDENTIALS)
def test_what_looks_like_a_credential_is_left_out(text: str) -> None:
    assert not SECRET.search(failures.redacted(text))


def test_a_credential_of_the_request_is_left_out_and_a_persons_name_is_not() -> None:
    assert failures.redacted('User "alice" said Bearer alice', "Bearer alice") == 'User "alice" said (credential)'
    assert "s3cr3t-s3cr3t-s3cr3t" not in failures.redacted("token s3cr3t-s3cr3t-s3cr3t", "Bearer s3cr3t-s3cr3t-s3cr3t")
    assert failures.redacted("basic authentication failed: bearer token expired") == (
        "basic authentication failed: bearer token expired"
    )
