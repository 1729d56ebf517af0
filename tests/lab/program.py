"""The product as a user runs it: the program ``ringfence`` in a process of its own, with a home of its own.

Whoever runs it is a responder: a service account that has what ``ringfence rbac`` renders, and nothing else. Two of
them are two principals, as an approval by someone else needs. At the end it is shown that the API server refused them
nothing: the rendered rights are enough for all that these tests did.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab import admission
from lab.images import PYTHON
from lab.kube import Kube
from lab.layout import Lab

BIN = Path(sys.executable).parent
TIMEOUT = 270
Json = dict[str, Any]


@dataclass(frozen=True)
class Responder:
    """A service account with the rendered rights. ``user`` is what the API server calls it."""

    name: str
    user: str
    kubeconfig: Path


@dataclass(frozen=True)
class Done:
    """How a command ended, and the most memory that its process had at once (bytes)."""

    returncode: int
    stdout: str
    stderr: str
    peak: int


class Ringfence:
    """The program with one store, vault and key. ``kubeconfig``: None is the lab's administrator."""

    def __init__(self, lab: Lab, home: Path, kubeconfig: Path | None = None) -> None:
        self.lab = lab
        self.home = home
        self.config = home / "config.yaml"
        self.settings: Json = {
            "cluster": {"kubeconfig": str(kubeconfig or lab.kubeconfig), "timeout_seconds": 30},
            "store": {"url": f"sqlite:///{home}/ringfence.db"},
            "vault": {"path": f"{home}/vault"},
            "signing": {"key": f"{home}/seal.pem"},
        }

    def by(self, responder: Responder) -> Ringfence:
        """The same store and vault in another person's hands, configured as this one is now."""
        other = Ringfence(self.lab, self.home)
        other.config = self.home / f"config-{responder.name}.yaml"
        other.settings = json.loads(json.dumps(self.settings))
        other.settings["cluster"]["kubeconfig"] = str(responder.kubeconfig)
        return other

    def configure(self, section: str, **values: object) -> None:
        self.settings[section] = {**self.settings.get(section, {}), **values}

    def environment(self) -> dict[str, str]:
        self.config.write_text(json.dumps(self.settings))
        return {**os.environ, "RINGFENCE_CONFIG": str(self.config)}

    def run(self, *arguments: str, stdout: int = subprocess.PIPE) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(BIN / "ringfence"), *arguments],
            env=self.environment(),
            stdout=stdout,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
            timeout=TIMEOUT,
        )

    def measured(self, *arguments: str) -> Done:
        """Like ``run``, with the peak of the process's resident memory, as the kernel counted it."""
        said, wrong = self.home / "stdout.txt", self.home / "stderr.txt"
        with said.open("w") as out, wrong.open("w") as err:
            child = subprocess.Popen(
                [str(BIN / "ringfence"), *arguments],
                env=self.environment(),
                stdout=out,
                stderr=err,
                stdin=subprocess.DEVNULL,
            )
            _, status, usage = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
        return Done(child.returncode, said.read_text(), wrong.read_text(), usage.ru_maxrss * 1024)

    def ok(self, *arguments: str) -> str:
        return self.ends(0, *arguments)

    def ends(self, code: int, *arguments: str) -> str:
        """What the command printed, which must end with this exit code."""
        done = self.run(*arguments)
        why = f"ringfence {' '.join(arguments)}: {done.returncode}\n{done.stderr}{brief(done.stdout)}"
        assert done.returncode == code, why
        assert "Traceback" not in done.stderr, done.stderr
        return done.stdout

    def json(self, *arguments: str, code: int = 0) -> Any:
        return json.loads(self.ends(code, *arguments, "-o", "json"))

    def rows(self, incident: str) -> dict[str, Json]:
        return {row["path"]: row for row in self.json("status", incident)["rows"]}

    def events(self, incident: str, kind: str) -> list[Json]:
        return [e["event"] for e in self.json("timeline", incident) if e["event"]["type"] == kind]


def brief(said: str) -> str:
    """What a person needs of the output to see why a command ended as it did."""
    try:
        view = json.loads(said)
        wanted = {"outcome": view["outcome"], "why": (view["run"] or {}).get("why"), "waiting": view["waiting"]}
    except (ValueError, KeyError, TypeError):
        return said
    steps = [f"  {one['step']} {one['target_uid']}: {one['outcome']}" for one in view["steps"]]
    return "\n".join([json.dumps(wanted, indent=1), *steps])


def steps_on(view: Json, step: str) -> dict[str, Json]:
    """What one step of the command's run came to: name of the object (empty: the incident) → its outcome."""
    names = {ref["uid"]: ref["name"] for ref in view["targets"]}
    return {
        names.get(one["target_uid"], one["target_uid"]): one["outcome"] for one in view["steps"] if one["step"] == step
    }


@dataclass
class Office:
    """Where responders are appointed: a namespace for their accounts, and what must be deleted that is in none."""

    lab: Lab
    kube: Kube
    namespace: str
    home: Path
    people: list[Responder] = field(default_factory=list)
    made: list[Json] = field(default_factory=list)

    def appoint(
        self,
        name: str,
        *options: str,
        canary_image: str = "",
        settings: dict[str, Json] | None = None,
        limited: bool = False,
        guard: bool = False,
    ) -> Responder:
        """A service account with exactly the rights that ``ringfence rbac`` renders for that configuration.

        ``limited``: somebody to whom the API server is to refuse something.
        """
        meta = {"name": name, "namespace": self.namespace}
        self.kube.create({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta})
        folder = self.home / name
        folder.mkdir()
        admin = Ringfence(self.lab, folder)
        if canary_image:
            admin.configure("canary", image=canary_image)
        for section, values in (settings or {}).items():
            admin.configure(section, **values)
        if guard:
            admin.configure("watch", guard=True)
        account = f"{self.namespace}/{name}"
        rendered = admin.ok("rbac", "--name", f"{self.namespace}-{name}", "--service-account", account, *options)
        for manifest in yaml.safe_load_all(rendered):
            self.made.append(manifest)
            self.kube.create(manifest)
        token = self.kube.request(
            "POST",
            f"/api/v1/namespaces/{self.namespace}/serviceaccounts/{name}/token",
            {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 4 * 3600}},
        )["status"]["token"]
        config: Json = yaml.safe_load(self.lab.kubeconfig.read_text())
        config["users"][0]["user"] = {"token": token}
        kubeconfig = folder / "kubeconfig"
        kubeconfig.write_text(yaml.safe_dump(config))
        person = Responder(name, user_of(token), kubeconfig)
        if not limited:
            self.people.append(person)
        return person

    def close(self) -> None:
        for manifest in reversed(self.made):
            meta = manifest["metadata"]
            self.kube.delete(manifest["apiVersion"], manifest["kind"], meta["name"], meta.get("namespace", ""))


@pytest.fixture(scope="session")
def office(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    """When all is done, nothing of what its people asked the API server for was forbidden to them."""
    namespace = f"rf-responders-{uuid.uuid4().hex[:8]}"
    kube = Kube.of(lab)
    began = lab.audit_log.stat().st_size
    kube.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    made = Office(lab, kube, namespace, tmp_path_factory.mktemp("responders"))
    try:
        admission.wait_service_account(kube, namespace)
        yield made
        assert [refusal for person in made.people for refusal in forbidden(lab, person.user, began)] == []
    finally:
        made.close()
        kube.delete("v1", "Namespace", namespace)
        kube.close()


@pytest.fixture(scope="session")
def responders(office: Office) -> tuple[Responder, Responder]:
    """Two people."""
    return office.appoint("ada"), office.appoint("bo")


@pytest.fixture(scope="session")
def canary_responder(office: Office) -> Responder:
    """Somebody where a network canary is configured."""
    return office.appoint("cy", canary_image=PYTHON)


def user_of(token: str) -> str:
    payload = token.split(".")[1]
    claims: Json = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return str(claims["sub"])


def forbidden(lab: Lab, user: str, since: int = 0) -> list[str]:
    """What the API server answered to that user with 403, from its own log. ``since``: from that byte on."""
    found = []
    with lab.audit_log.open("rb") as log:
        log.seek(since if lab.audit_log.stat().st_size >= since else 0)
        for line in log:
            if user.encode() in line and b'"code":403' in line:
                event = json.loads(line)
                if event["user"]["username"] == user and event["stage"] == "ResponseComplete":
                    found.append(f"{event['verb']} {event['requestURI']}")
    return found
