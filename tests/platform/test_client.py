"""The connection, against a real HTTP server: what is sent, what comes back unchanged, how each failure looks, and
kubeconfigs that are broken in every usual way."""

from __future__ import annotations

import base64
import datetime as dt
import gc
import ipaddress
import json
import socket
import ssl
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ringfence.errors import (
    ConfigError,
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
from ringfence.platform.kubernetes.client import FIELD_MANAGER, Cluster, connect
from ringfence.platform.kubernetes.resources import NAMESPACE, NODE, POD, SELF_SUBJECT_REVIEW, SERVICE_ACCOUNT
from tests.wire import Answer, Request, Responder, Wire, kubeconfig

Open = Callable[..., tuple[Cluster, Wire]]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Open]:
    """A server that answers as told, and a cluster that is connected to it."""
    with ExitStack() as stack:

        def start(responder: Responder | Answer, timeout: float = 5.0, **user: Any) -> tuple[Cluster, Wire]:
            wire = stack.enter_context(Wire(responder))
            cluster = connect(kubeconfig(tmp_path / "kubeconfig", wire.url, user=user or None), None, timeout)
            stack.callback(cluster.close)
            return cluster, wire

        yield start


def the_object(request: Request) -> Answer:
    """An object of the name that was asked for."""
    return Answer(body=json.dumps({"metadata": {"name": unquote(request.path.rpartition("/")[2])}}).encode())


def status(code: int, message: str = "because") -> Answer:
    return Answer(code, json.dumps({"kind": "Status", "message": message, "code": code}).encode())


# --- what goes out --------------------------------------------------------------------------------------------------


def test_a_write_carries_manager_audit_id_and_strict_validation(opened: Open) -> None:
    cluster, wire = opened(Answer(201, b'{"metadata": {"uid": "u"}}'))
    cluster.create(POD, "bank", {"metadata": {"name": "x"}}, audit_id="a-1")
    cluster.patch(POD, "bank", "x", [{"op": "test", "path": "/metadata/uid", "value": "u"}], audit_id="a-2")
    for request, method, audit in zip(wire.requests, ("POST", "PATCH"), ("a-1", "a-2"), strict=True):
        assert request.method == method
        assert request.headers["audit-id"] == audit
        assert request.query == {"fieldManager": FIELD_MANAGER, "fieldValidation": "Strict"}
        assert request.headers["user-agent"].startswith("ringfence/")
        assert request.headers["authorization"] == "Bearer alice"
    assert wire.requests[1].headers["content-type"] == "application/json-patch+json"
    assert json.loads(wire.requests[1].body)[0]["op"] == "test"


def test_a_dry_run_says_so_in_every_verb(opened: Open) -> None:
    cluster, wire = opened(Answer())
    cluster.create(POD, "bank", {"metadata": {"name": "x"}}, dry_run=True)
    cluster.patch(POD, "bank", "x", [], dry_run=True)
    cluster.delete(POD, "bank", "x", uid="u", dry_run=True)
    # A deletion goes by its body, and an audit log without bodies has its address alone.
    assert [request.query.get("dryRun") for request in wire.requests] == ["All", "All", "All"]
    assert json.loads(wire.requests[2].body)["dryRun"] == ["All"]


def test_a_read_carries_no_audit_id(opened: Open) -> None:
    cluster, wire = opened(the_object)
    cluster.get(POD, "bank", "x")
    assert "audit-id" not in wire.requests[0].headers
    assert wire.requests[0].path == "/api/v1/namespaces/bank/pods/x"


def test_a_delete_names_the_uid_and_nothing_that_was_not_asked_for(opened: Open) -> None:
    cluster, wire = opened(Answer())
    cluster.delete(POD, "bank", "x", uid="u-1", audit_id="a-1")
    cluster.delete(POD, "bank", "x", uid="u-1", grace_seconds=0)
    first, second = (json.loads(request.body) for request in wire.requests)
    assert first == {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": "u-1"}}
    assert second["gracePeriodSeconds"] == 0, "zero is a number, not nothing"
    assert wire.requests[0].headers["audit-id"] == "a-1"


@pytest.mark.parametrize("name", ["../nodes/n1", "x?watch=true", "x/log", "x#y", "a b", "%2e%2e"])
def test_a_hostile_name_stays_one_part_of_the_path(opened: Open, name: str) -> None:
    cluster, wire = opened(Answer(body=json.dumps({"metadata": {"name": name}}).encode()))
    cluster.get(POD, "bank", name)
    (request,) = wire.requests
    assert request.query == {}
    assert request.path.startswith("/api/v1/namespaces/bank/pods/")
    assert "/" not in request.path.removeprefix("/api/v1/namespaces/bank/pods/")


def test_cluster_scoped_kinds_and_subresources_have_their_paths(opened: Open) -> None:
    cluster, wire = opened(the_object)
    cluster.get(NODE, "", "n1")
    cluster.get(NAMESPACE, "", "bank")
    cluster.create(SERVICE_ACCOUNT, "bank", {}, name="cards", subresource="token")
    assert [request.path for request in wire.requests] == [
        "/api/v1/nodes/n1",
        "/api/v1/namespaces/bank",
        "/api/v1/namespaces/bank/serviceaccounts/cards/token",
    ]


def test_another_bearer_leaves_our_own_credentials_at_home(opened: Open) -> None:
    cluster, wire = opened(the_object)
    with cluster.as_bearer("stolen") as theirs:
        theirs.create(SELF_SUBJECT_REVIEW, "", {}, audit_id="a-1")
    cluster.get(POD, "bank", "x")
    assert [request.headers["authorization"] for request in wire.requests] == ["Bearer stolen", "Bearer alice"]
    assert wire.requests[0].headers["audit-id"] == "a-1"


# --- what comes back ------------------------------------------------------------------------------------------------


def test_an_objects_bytes_come_through_unchanged(opened: Open) -> None:
    odd = b'{ "b":1 ,\n "a":  "\\u00e9", "unknownField": 9223372036854775807}\n'
    cluster, _ = opened(Answer(body=odd))
    assert cluster.get_bytes(POD, "bank", "x") == odd


LOGS = [
    b"",
    b"2026-11-23T03:00:00Z hello\n",
    b"\xff\xfe\x00\x80 not UTF-8\r\n\x1b[31m",
    b'{"a": 1}',
    bytes(range(256)) * 2000,
]


@pytest.mark.parametrize("text", LOGS, ids=["empty", "text", "invalid-utf-8", "json", "large"])
def test_a_logs_bytes_come_through_unchanged(opened: Open, text: bytes) -> None:
    cluster, wire = opened(Answer(body=text, headers={"Content-Type": "text/plain"}))
    with cluster.log("bank", "x", "cards") as chunks:
        assert b"".join(chunks) == text
    assert wire.requests[0].path == "/api/v1/namespaces/bank/pods/x/log"
    assert wire.requests[0].query == {"container": "cards", "timestamps": "true"}


def test_a_log_is_asked_for_in_utc_and_of_the_instance_before(opened: Open) -> None:
    cluster, wire = opened(Answer())
    since = dt.datetime(2026, 11, 23, 4, 0, 0, tzinfo=dt.timezone(dt.timedelta(hours=1)))
    with cluster.log("bank", "x", "cards", previous=True, since=since) as chunks:
        list(chunks)
    assert wire.requests[0].query == {
        "container": "cards",
        "timestamps": "true",
        "previous": "true",
        "sinceTime": "2026-11-23T03:00:00Z",
    }


def test_a_log_that_breaks_off_is_an_error_and_not_a_short_log(opened: Open) -> None:
    cluster, _ = opened(Answer(body=b"x" * 100_000, sends=70_000))
    with pytest.raises(Unanswered), cluster.log("bank", "x", "cards") as chunks:
        list(chunks)


@pytest.mark.parametrize(("code", "kind"), [(400, Invalid), (404, NotFound), (500, Unanswered), (302, Invalid)])
def test_a_log_that_is_refused_raises_when_it_is_opened(opened: Open, code: int, kind: type[PlatformError]) -> None:
    cluster, _ = opened(status(code, "previous terminated container not found"))
    with pytest.raises(kind, match="previous terminated"), cluster.log("bank", "x", "cards", previous=True):
        pass


def test_what_the_reader_of_a_log_raises_is_its_own(opened: Open) -> None:
    cluster, _ = opened(Answer(body=b"x"))
    with pytest.raises(ZeroDivisionError), cluster.log("bank", "x", "cards"):
        _ = 1 / 0


def test_a_list_takes_every_page_and_gives_items_their_kind(opened: Open) -> None:
    pages = {
        None: {"kind": "PodList", "metadata": {"continue": "t1"}, "items": [{"metadata": {"name": "a"}}]},
        "t1": {"kind": "PodList", "metadata": {"continue": "t2"}, "items": None},
        "t2": {"kind": "PodList", "metadata": {"continue": ""}, "items": [{"metadata": {"name": "b"}}]},
    }
    cluster, wire = opened(lambda request: Answer(body=json.dumps(pages[request.query.get("continue")]).encode()))
    found = cluster.list(POD, "bank", labels="app=cards", fields="spec.nodeName=n1")
    assert [(obj["metadata"]["name"], obj["apiVersion"], obj["kind"]) for obj in found] == [
        ("a", "v1", "Pod"),
        ("b", "v1", "Pod"),
    ]
    for request in wire.requests:
        assert request.query["limit"] == "500"
        assert request.query["labelSelector"] == "app=cards"
        assert request.query["fieldSelector"] == "spec.nodeName=n1"


def test_a_list_of_all_namespaces_has_no_namespace_in_its_path(opened: Open) -> None:
    cluster, wire = opened(Answer(body=b'{"kind": "PodList", "items": []}'))
    assert cluster.list(POD) == ()
    assert wire.requests[0].path == "/api/v1/pods"


def test_a_list_that_expires_between_pages_is_never_taken_for_an_absent_one(opened: Open) -> None:
    first = Answer(body=b'{"kind": "PodList", "metadata": {"continue": "t1"}, "items": [{"metadata": {"name": "a"}}]}')
    cluster, _ = opened(lambda request: status(410, "expired") if "continue" in request.query else first)
    with pytest.raises(Unanswered, match="expired"):
        cluster.list(POD, "bank")


def test_find_gives_nothing_only_when_the_server_says_that_there_is_nothing(opened: Open) -> None:
    cluster, _ = opened(lambda request: status(404 if request.path.endswith("/gone") else 403))
    assert cluster.find(POD, "bank", "gone") is None
    with pytest.raises(PlatformError):
        cluster.find(POD, "bank", "hidden")


@pytest.mark.parametrize("minutes", [-90, 0, 7])
def test_the_clock_offset_is_the_servers_minus_ours(opened: Open, minutes: int) -> None:
    date = dt.datetime.now(dt.UTC) + dt.timedelta(minutes=minutes)
    cluster, _ = opened(
        Answer(body=b'{"metadata": {"name": "x"}}', headers={"Date": date.strftime("%a, %d %b %Y %H:%M:%S GMT")})
    )
    assert cluster.clock_offset_ms is None, "nothing is known before the first answer"
    cluster.get(POD, "bank", "x")
    assert cluster.clock_offset_ms == pytest.approx(minutes * 60_000, abs=2000)


@pytest.mark.parametrize(
    "date", ["", "yesterday", "Mon, 99 Foo 2026 99:99:99 GMT", "0", f"Mon, 01 Jan {10**20} 00:00:00 GMT"]
)
def test_a_date_that_is_none_changes_nothing(opened: Open, date: str) -> None:
    cluster, _ = opened(Answer(body=b'{"metadata": {"name": "x"}}', headers={"Date": date}))
    cluster.get(POD, "bank", "x")
    assert cluster.clock_offset_ms is None


# --- failures -------------------------------------------------------------------------------------------------------

FORBIDDEN = 'pods "x" is forbidden: User "bob" cannot get resource "pods" in API group "" in the namespace "bank"'
ANSWERS: list[tuple[Answer, type[PlatformError]]] = [
    (status(401, "Unauthorized"), Denied),
    (status(403, FORBIDDEN), Denied),
    (status(403, 'admission webhook "x" denied the request'), Invalid),
    (status(404), NotFound),
    (status(409), Conflict),
    (status(410), NotFound),
    (status(422), Invalid),
    (Answer(429, b"", {"Retry-After": "30"}), Throttled),
    (status(500), Unanswered),
    (Answer(503, b"<html>no healthy upstream</html>", {"Content-Type": "text/html"}), Unanswered),
    (status(504), Unanswered),
    (Answer(302, b"", {"Location": "https://login.test/"}), Invalid),
    (Answer(200, b"<html>sign in</html>"), Unanswered),
    (Answer(200, b""), Unanswered),
    (Answer(200, b"[]"), Unanswered),
    (Answer(200, b"[" * 60_000), Unanswered),
    (Answer(200, b'{"metadata": {"name": "x"}}', sends=10), Unanswered),
    (Answer(200, sends=0), Unanswered),
    (Answer(200, b"{}", {"Content-Encoding": "gzip"}), Unanswered),
]
CALLS: dict[str, Callable[[Cluster], object]] = {
    "get": lambda cluster: cluster.get(POD, "bank", "x"),
    "list": lambda cluster: cluster.list(POD, "bank"),
    "create": lambda cluster: cluster.create(POD, "bank", {"metadata": {"name": "x"}}, audit_id="a-1"),
    "patch": lambda cluster: cluster.patch(POD, "bank", "x", [], audit_id="a-1"),
    "delete": lambda cluster: cluster.delete(POD, "bank", "x", uid="u", audit_id="a-1"),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(("answer", "kind"), ANSWERS)
def test_each_answer_is_one_error_with_its_effect(
    opened: Open, call: str, answer: Answer, kind: type[PlatformError]
) -> None:
    cluster, _ = opened(answer)
    if (call, answer.status) == ("list", 410):
        kind = Unanswered
    with pytest.raises(PlatformError) as caught:
        CALLS[call](cluster)
    error = caught.value
    assert type(error) is kind
    assert error.effect is (Effect.MAYBE if kind is Unanswered else Effect.NONE)
    assert (error.system, error.verb) == ("kubernetes", call)
    assert error.next_step


def test_throttling_says_when_to_come_back(opened: Open) -> None:
    cluster, _ = opened(Answer(429, b"", {"Retry-After": "30"}))
    with pytest.raises(Throttled) as caught:
        cluster.get(POD, "bank", "x")
    assert caught.value.retry_after == 30


@pytest.mark.parametrize("call", CALLS)
def test_a_slow_answer_may_have_been_a_write(opened: Open, call: str) -> None:
    cluster, _ = opened(Answer(delay=5), timeout=0.2)
    with pytest.raises(Unanswered) as caught:
        CALLS[call](cluster)
    assert caught.value.effect is Effect.MAYBE


def test_a_write_that_fails_carries_its_audit_id(opened: Open) -> None:
    for answer in (status(500), status(409), Answer(sends=0)):
        cluster, _ = opened(answer)
        with pytest.raises(PlatformError) as caught:
            CALLS["patch"](cluster)
        assert caught.value.audit_id == "a-1"


@pytest.mark.parametrize("call", CALLS)
def test_a_refused_connection_was_never_sent(tmp_path: Path, call: str) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    cluster = connect(kubeconfig(tmp_path / "kubeconfig", f"http://127.0.0.1:{port}"), None, 2)
    with pytest.raises(NotSent) as caught:
        CALLS[call](cluster)
    assert caught.value.effect is Effect.NONE
    assert str(port) in caught.value.what
    with pytest.raises(NotSent), cluster.log("bank", "x", "cards"):
        pass
    cluster.close()


def test_a_name_that_does_not_resolve_was_never_sent(tmp_path: Path) -> None:
    cluster = connect(kubeconfig(tmp_path / "kubeconfig", "https://api.invalid:6443"), None, 2)
    with pytest.raises(NotSent):
        cluster.get(POD, "bank", "x")
    cluster.close()


@pytest.mark.parametrize("call", CALLS)
def test_a_proxy_that_refuses_has_sent_nothing_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name)
    with Wire(Answer()) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        cluster = connect(kubeconfig(tmp_path / "kubeconfig", "https://api.test:6443"), None, 2)
        with pytest.raises(NotSent):
            CALLS[call](cluster)
        cluster.close()
        assert proxy.requests == [], "CONNECT is all that it has heard"


def test_several_threads_share_one_connection(opened: Open) -> None:
    cluster, wire = opened(the_object)
    wrong: list[str] = []

    def work(number: int) -> None:
        for turn in range(5):
            name = f"x-{number}-{turn}"
            try:
                cluster.get(POD, "bank", name)
            except PlatformError:  # another thread's answer has another name
                wrong.append(name)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (wrong, len(wire.requests)) == ([], 40)


# --- TLS ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for 127.0.0.1 with its key, as one PEM file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM) + private)
    return path


@pytest.fixture
def secure(certificate: Path) -> Iterator[Wire]:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    with Wire(Answer(body=b'{"metadata": {"name": "x"}}'), tls=tls) as wire:
        yield wire


def test_a_server_of_the_right_authority_is_talked_to(secure: Wire, certificate: Path, tmp_path: Path) -> None:
    data = base64.b64encode(certificate.read_bytes()).decode()
    for authority in ({"certificate-authority": str(certificate)}, {"certificate-authority-data": data}):
        cluster = connect(kubeconfig(tmp_path / "kubeconfig", secure.url, **authority), None, 5)
        assert cluster.get(POD, "bank", "x") == {"metadata": {"name": "x"}}
        cluster.close()


def test_a_relative_authority_is_looked_for_beside_the_kubeconfig(
    secure: Wire, certificate: Path, tmp_path: Path
) -> None:
    (tmp_path / "ca.pem").write_bytes(certificate.read_bytes())
    path = kubeconfig(tmp_path / "kubeconfig", secure.url, **{"certificate-authority": "ca.pem"})
    cluster = connect(path, None, 5)
    assert cluster.get(POD, "bank", "x") == {"metadata": {"name": "x"}}
    cluster.close()


def test_a_server_of_another_authority_is_never_sent_anything(secure: Wire, tmp_path: Path) -> None:
    cluster = connect(kubeconfig(tmp_path / "kubeconfig", secure.url), None, 5)
    with pytest.raises(NotSent, match="certificate") as caught:
        cluster.create(POD, "bank", {"metadata": {"name": "x"}})
    assert caught.value.effect is Effect.NONE
    assert secure.requests == [], "not even our token"
    cluster.close()


# --- kubeconfigs ----------------------------------------------------------------------------------------------------


def broken(tmp_path: Path, content: str | dict[str, Any], context: str | None = None) -> ConfigError:
    path = tmp_path / "kubeconfig"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    with pytest.raises(ConfigError) as caught:
        connect(str(path), context, 5)
    error = caught.value
    assert error.location == str(path)
    assert str(path) in error.what
    assert error.why
    assert error.next_step
    return error


def config(**changes: Any) -> dict[str, Any]:
    whole = {
        "current-context": "test",
        "contexts": [{"name": "test", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:1"}}],
        "users": [{"name": "u", "user": {"token": "alice"}}],
    }
    return {**whole, **changes}


def a_cluster(**members: Any) -> dict[str, Any]:
    return config(clusters=[{"name": "c", "cluster": {"server": "https://127.0.0.1:1", **members}}])


BROKEN: dict[str, str | dict[str, Any]] = {
    "empty": "",
    "not yaml": "a: [",
    "a list": "- x",
    "no clusters": {"current-context": "test", "contexts": []},
    "no current context": config(**{"current-context": None}),
    "empty current context": config(**{"current-context": ""}),
    "unknown context": config(**{"current-context": "prod"}),
    "unknown cluster": config(contexts=[{"name": "test", "context": {"cluster": "other", "user": "u"}}]),
    "unknown user": config(contexts=[{"name": "test", "context": {"cluster": "c", "user": "other"}}]),
    "no user": config(contexts=[{"name": "test", "context": {"cluster": "c"}}]),
    "wrong type": config(users=[{"name": "u", "user": {"token": 7}}]),
    "missing CA": a_cluster(**{"certificate-authority": "nowhere/ca.pem"}),
    "CA is no base64": a_cluster(**{"certificate-authority-data": "%%% no base64"}),
    "CA is no certificate": a_cluster(**{"certificate-authority-data": base64.b64encode(b"no PEM").decode()}),
    "missing client certificate": config(
        users=[{"name": "u", "user": {"client-certificate": "nowhere.pem", "client-key": "nowhere.key"}}]
    ),
    "auth provider": config(users=[{"name": "u", "user": {"auth-provider": {"name": "gcp"}}}]),
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_kubeconfig_is_named(tmp_path: Path, content: str | dict[str, Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # lightkube's temporary file, when it holds no base64
        broken(tmp_path, content)
        gc.collect()


def test_an_unknown_context_is_named(tmp_path: Path) -> None:
    assert "prod" in broken(tmp_path, config(), context="prod").why


def test_a_missing_kubeconfig_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        connect(str(tmp_path / "nowhere"), None, 5)
    assert caught.value.location == str(tmp_path / "nowhere")


def test_the_environments_kubeconfig_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "nowhere"))
    with pytest.raises(ConfigError) as caught:
        connect(None, None, 5)
    assert caught.value.location == str(tmp_path / "nowhere")


def test_several_kubeconfigs_are_not_merged_in_silence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = kubeconfig(tmp_path / "kubeconfig", "http://127.0.0.1:1")
    monkeypatch.setenv("KUBECONFIG", f"{path}:{tmp_path}/other")
    with pytest.raises(ConfigError, match="several"):
        connect(None, None, 5)


def test_the_environments_kubeconfig_wins_over_the_one_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".kube").mkdir()
    kubeconfig(tmp_path / ".kube" / "config", "http://home.test")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    at_home = connect(None, None, 5)
    monkeypatch.setenv("KUBECONFIG", kubeconfig(tmp_path / "other", "http://other.test"))
    named = connect(None, None, 5)
    assert (at_home.server, named.server) == ("http://home.test", "http://other.test")
    assert (named.context, named.namespace) == ("test", "bank")
    at_home.close()
    named.close()


def test_without_any_kubeconfig_every_place_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError, match="service account"):
        connect(None, None, 5)


# --- credentials that fail when they are used -----------------------------------------------------------------------


def plugin(command: str, *args: str, version: str = "v1beta1") -> dict[str, Any]:
    api = f"client.authentication.k8s.io/{version}"
    return {"exec": {"apiVersion": api, "command": command, "args": list(args)}}


CREDENTIALS: dict[str, dict[str, Any]] = {
    "program missing": plugin("/nonexistent/aws"),
    "program fails": plugin("false"),
    "answers no json": plugin("echo", "hello"),
    "answers another json": plugin("echo", "{}"),
    "answers a list": plugin("echo", "[]"),
    "version unknown": plugin("echo", version="v9"),
    "token file missing": {"tokenFile": "/nonexistent/token"},
}


@pytest.mark.parametrize("user", CREDENTIALS.values(), ids=CREDENTIALS.keys())
def test_credentials_that_cannot_be_had_are_never_sent(opened: Open, user: dict[str, Any]) -> None:
    cluster, wire = opened(Answer(), **user)
    for call in CALLS.values():
        with pytest.raises(NotSent, match="credentials of context test") as caught:
            call(cluster)
        assert caught.value.effect is Effect.NONE
    with pytest.raises(NotSent, match="credentials of context test"), cluster.log("bank", "x", "cards"):
        pass
    assert wire.requests == []


def test_a_plugins_token_is_used(opened: Open) -> None:
    cluster, wire = opened(the_object, **plugin("echo", '{"status": {"token": "from-plugin"}}'))
    cluster.get(POD, "bank", "x")
    assert wire.requests[0].headers["authorization"] == "Bearer from-plugin"


def test_a_token_file_is_read_again_when_its_token_has_expired(opened: Open, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("old")

    def respond(request: Request) -> Answer:
        if request.headers["authorization"] == "Bearer old":
            token.write_text("new")
            return status(401)
        return the_object(request)

    cluster, _ = opened(respond, tokenFile=str(token))
    assert cluster.get(POD, "bank", "x") == {"metadata": {"name": "x"}}
