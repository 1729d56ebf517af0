"""Credentials of the operator are in no error, view, row, bundle or report, whatever the server and the files do."""

from __future__ import annotations

import base64
import json
import re
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
import yaml

from ringfence import cli
from ringfence.config import load
from ringfence.errors import ConfigError, NotSent, PlatformError, RingfenceError
from ringfence.evidence.acquire import Acquirer
from ringfence.evidence.sealing import Sealer
from ringfence.evidence.vault import Vault
from ringfence.model.outcome import Problem
from ringfence.platform.kubernetes.client import Cluster, connect
from ringfence.platform.kubernetes.resources import POD
from ringfence.platform.kubernetes.surroundings import reference
from ringfence.reporting.html import render as render_html
from ringfence.seal.signing import SigningKey
from ringfence.store.database import Store
from tests.hostile.test_evidence import WHO, declared
from tests.hostile.world import captured
from tests.reporting.sample import report_of
from tests.simulator import Simulator
from tests.wire import Answer, Request, Wire, kubeconfig

pytestmark = pytest.mark.slow

TOKEN = "t0ken-of-alice-4711-do-not-print"
PASSWORD = "passw0rd-of-alice-4711"
MINTED = "minted-for-the-suspect-4711-do-not-print"
SECRETS = (TOKEN, PASSWORD, MINTED, base64.b64encode(f"alice:{PASSWORD}".encode()).decode())


def leaks(text: str | bytes) -> list[str]:
    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    return [secret for secret in SECRETS if secret.encode() in data]


def words(error: RingfenceError) -> str:
    return " ".join([str(error), error.what, error.why, error.next_step, repr(error)])


def echo(request: Request) -> str:
    return "".join(f"{name}: {value}\n" for name, value in request.headers.items())


ECHOES: dict[str, Callable[[Request], Answer]] = {
    "page 500": lambda request: Answer(500, f"<html><pre>{echo(request)}</pre>".encode()),
    "page 403": lambda request: Answer(403, echo(request).encode()),
    "page 401": lambda request: Answer(401, request.headers.get("authorization", "").encode()),
    "page 302": lambda request: Answer(302, echo(request).encode(), {"Location": "https://login.test/"}),
    "status": lambda request: Answer(
        422, json.dumps({"kind": "Status", "message": f"invalid: {echo(request)}"}).encode()
    ),
    "token alone": lambda request: Answer(409, request.headers.get("authorization", "x x").split(" ", 1)[1].encode()),
    "throttled": lambda request: Answer(429, echo(request).encode()),
    "no json": lambda request: Answer(200, echo(request).encode()),
    "a broken header": lambda request: Answer(200, b"{}", {"X": "a\nb"}),
    "nothing": lambda request: Answer(sends=0),
}
CALLS: dict[str, Callable[[Cluster], object]] = {
    "get": lambda cluster: cluster.get(POD, "bank", "x"),
    "list": lambda cluster: cluster.list(POD, "bank"),
    "create": lambda cluster: cluster.create(POD, "bank", {"metadata": {"name": "x"}}, audit_id="a"),
    "patch": lambda cluster: cluster.patch(POD, "bank", "x", [], audit_id="a"),
    "delete": lambda cluster: cluster.delete(POD, "bank", "x", uid="u"),
    "log": lambda cluster: _log(cluster),
    "minted": lambda cluster: _as_minted(cluster),
}


def _log(cluster: Cluster) -> None:
    with cluster.log("bank", "x", "cards") as chunks:
        for _ in chunks:
            """A log of any bytes is a log."""
    raise NotSent("the log came", system="", verb="", target="")


def _as_minted(cluster: Cluster) -> None:
    with cluster.as_bearer(MINTED) as theirs:
        theirs.get(POD, "bank", "x")


USERS: dict[str, dict[str, Any]] = {
    "token": {"token": TOKEN},
    "password": {"username": "alice", "password": PASSWORD},
    "plug-in": {
        "exec": {
            "apiVersion": "client.authentication.k8s.io/v1beta1",
            "command": "echo",
            "args": [json.dumps({"status": {"token": TOKEN}})],
        }
    },
}


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[..., Cluster]]:
    with ExitStack() as stack:

        def start(responder: Callable[[Request], Answer], user: dict[str, Any]) -> Cluster:
            wire = stack.enter_context(Wire(responder))
            cluster = connect(kubeconfig(tmp_path / "kubeconfig", wire.url, user=user), None, 5)
            stack.callback(cluster.close)
            return cluster

        yield start


@pytest.mark.parametrize("user", USERS.values(), ids=USERS)
@pytest.mark.parametrize("responder", ECHOES.values(), ids=ECHOES)
def test_a_server_that_repeats_our_credentials_is_quoted_without_them(
    opened: Callable[..., Cluster], responder: Callable[[Request], Answer], user: dict[str, Any]
) -> None:
    cluster = opened(responder, user)
    for call in CALLS.values():
        with pytest.raises(PlatformError) as caught:
            call(cluster)
        assert leaks(words(caught.value)) == []
        assert leaks(Problem.of(caught.value).model_dump_json()) == []


BROKEN_TOKENS = {
    "line break": f"{TOKEN}\n",
    "line break within": f"{TOKEN}\n{TOKEN}",
    "NUL": f"{TOKEN}\x00",
}


@pytest.mark.parametrize("token", BROKEN_TOKENS.values(), ids=BROKEN_TOKENS)
@pytest.mark.parametrize("how", ["token", "tokenFile", "as_bearer"])
def test_a_token_that_cannot_be_sent_is_not_printed_instead(
    opened: Callable[..., Cluster], token: str, how: str, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text(token)
    if how == "tokenFile" and token == token.strip() + "\n":
        return  # a line break at the end of a file is its end
    user = {"token": token, "tokenFile": str(tmp_path / "token"), "as_bearer": "x"}[how]
    cluster = opened(lambda _request: Answer(), {"tokenFile" if how == "tokenFile" else "token": user})

    def use(cluster: Cluster) -> None:
        for name, call in CALLS.items():
            if name == "minted":
                continue
            with pytest.raises(NotSent, match="not legal HTTP") as caught:
                call(cluster)
            assert leaks(words(caught.value)) == []
            assert caught.value.next_step

    if how == "as_bearer":
        with cluster.as_bearer(token) as theirs:
            use(theirs)
    else:
        use(cluster)


KUBECONFIGS: dict[str, str] = {
    "a colon in the token's line": f"users:\n- name: u\n  user:\n    token: {TOKEN}: x\n",
    "an open bracket": f"users:\n- name: u\n  user: {{token: {TOKEN}\n bad",
    "a quote": f"users:\n- name: u\n  user:\n    token: '{TOKEN}\n",
    "a tab": f"users:\n- name: u\n  user:\n\ttoken: {TOKEN}\n",
    "a control": f"users:\n- name: u\n  user:\n    token: {TOKEN}\x01\n",
    "an alias": f"users:\n- name: u\n  user:\n    token: *{TOKEN}\n",
    "a tag": f"users:\n- name: u\n  user:\n    token: !{TOKEN} x\n",
    "a list": f"users: [{TOKEN}]",
    "a map": f"users: {{token: {TOKEN}}}",
    "a token as user": yaml.safe_dump({"users": [{"name": "u", "user": TOKEN}], "clusters": [], "contexts": []}),
}


@pytest.mark.parametrize("content", KUBECONFIGS.values(), ids=KUBECONFIGS)
def test_a_broken_kubeconfig_is_described_and_not_quoted(content: str, tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(content)
    with pytest.raises(ConfigError) as caught:
        connect(str(path), None, 5)
    assert leaks(words(caught.value)) == []


def test_a_broken_configuration_does_not_quote_the_databases_password(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    for content in (
        f"store:\n  url: postgresql://u:{PASSWORD}@h/db: x\n",
        f"store: {{url: 'postgresql://u:{PASSWORD}@h/db\n",
        f"stroe:\n  url: postgresql://u:{PASSWORD}@h/db\n",
        f"store: postgresql://u:{PASSWORD}@h/db\n",
        f"store:\n  url: [postgresql://u:{PASSWORD}@h/db]\n",
    ):
        path.write_text(content)
        with pytest.raises(ConfigError) as caught:
            load(path)
        assert leaks(words(caught.value)) == []


def test_no_file_that_a_failing_capture_leaves_holds_a_credential(
    api: Simulator, fresh_store: Store, signing_key: SigningKey, tmp_path: Path
) -> None:
    hidden = re.compile(r"/log$|/nodes/|rolebindings$|/events$|/serviceaccounts/|/replicasets/")

    def respond(request: Request) -> Answer:
        if hidden.search(request.path):
            return Answer(500, f"<pre>{echo(request)}</pre>{request.headers['authorization']}".encode())
        return api(request)

    home = tmp_path / "kept"
    home.mkdir()
    vault = Vault(home / "vault")
    incident = declared(fresh_store, "x")
    with Wire(respond) as wire, ThreadPoolExecutor(4) as pool:
        config = kubeconfig(tmp_path / "kubeconfig", wire.url, user={"token": TOKEN})
        with closing(connect(config, None, 5)) as cluster:
            acquirer = Acquirer(cluster, vault.blobs(incident.id), operator=WHO.id, authority="incident INC-1")
            api.objects["/apis/apps/v1", "replicasets", "bank", "cards-6b7f"]["metadata"]["ownerReferences"] = []
            around, items = _captured(acquirer, pool, api)
            Sealer(fresh_store, vault, signing_key).seal(
                incident, reference("cluster-1", around.pod), items, actor=WHO.id, key="a"
            )
    assert [item for item in items if "500" in item.reason], "the server did repeat the headers"
    assert leaks(" ".join(item.reason for item in items)) == []
    (home / "report.html").write_text(render_html(report_of(fresh_store)))
    fresh_store.close()
    for path in [*home.rglob("*"), *tmp_path.glob("fresh.db*")]:
        if path.is_file():
            assert leaks(path.read_bytes()) == [], path


def _captured(acquirer: Acquirer, pool: ThreadPoolExecutor, api: Simulator) -> Any:
    pod = api.objects["/api/v1", "pods", "bank", "cards-1"]
    pod["metadata"]["ownerReferences"] = []
    return captured(acquirer, pool)


@pytest.mark.parametrize("responder", ECHOES.values(), ids=ECHOES)
def test_a_command_that_fails_prints_no_credential(
    responder: Callable[[Request], Answer],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(
        yaml.safe_dump(
            {
                "store": {"url": f"sqlite:///{tmp_path / 'ringfence.db'}"},
                "vault": {"path": str(tmp_path / "vault")},
                "signing": {"key": str(tmp_path / "seal.pem")},
            }
        )
    )
    with Wire(responder) as wire:
        path = kubeconfig(tmp_path / "kubeconfig", wire.url, user={"token": TOKEN})
        for command in (["contain", "pod/cards-1", "-n", "bank"], ["doctor"], ["status", "INC-1"]):
            for out in ("text", "json"):
                arguments = [*command, "--config", str(config), "--kubeconfig", path, "-o", out]
                monkeypatch.setattr(sys, "argv", ["ringfence", *arguments])
                with pytest.raises(SystemExit) as ended:
                    cli.main()
                assert ended.value.code not in (0, None)
                said = capsys.readouterr()
                assert leaks(said.out + said.err) == []
                assert "Traceback" not in said.err
    for file in tmp_path.rglob("*"):
        if file.is_file() and file.name != "kubeconfig":
            assert leaks(file.read_bytes()) == [], file
