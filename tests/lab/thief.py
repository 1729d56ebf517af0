"""A token that was stolen from a pod's files, and what its holder does with it from outside."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from lab.kube import ApiError, Kube
from lab.layout import Lab
from tests.lab.space import Space

_FILE = "/var/run/secrets/kubernetes.io/serviceaccount/token"


@dataclass(frozen=True)
class Thief:
    """``kube`` acts as the token's holder."""

    kube: Kube
    namespace: str

    def write(self, name: str) -> None:
        meta = {"name": name, "namespace": self.namespace}
        self.kube.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta})

    def read(self, name: str) -> Any:
        return self.kube.get("v1", "ConfigMap", name, self.namespace)

    def execute(self, pod: str) -> None:
        """Ask for a command in a pod: admission answers before anything is upgraded or run."""
        self.kube.request("POST", f"/api/v1/namespaces/{self.namespace}/pods/{pod}/exec?command=true&stdout=true")

    def may_write(self, name: str) -> bool:
        with contextlib.suppress(ApiError):
            self.write(name)
            return True
        return False

    def may_read(self, name: str) -> bool:
        with contextlib.suppress(ApiError):
            self.read(name)
            return True
        return False

    def whoami(self) -> str:
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
        answer = self.kube.request("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", body)
        return str(answer["status"]["userInfo"]["username"])


@contextlib.contextmanager
def steal(space: Space, pod: str) -> Iterator[Thief]:
    """Read the token in a running pod, and use it."""
    token = _read(space.lab, space.name, pod)
    config = yaml.safe_load(space.lab.kubeconfig.read_text())
    config["users"][0]["user"] = {"token": token}
    path = space.lab.state / f"stolen-{space.name}-{pod}"
    path.touch(mode=0o600)
    try:
        path.write_text(yaml.safe_dump(config))
        kube = Kube.from_kubeconfig(path)
    finally:
        path.unlink()
    try:
        yield Thief(kube, space.name)
    finally:
        kube.close()


def _read(lab: Lab, namespace: str, pod: str) -> str:
    script = f"print(open({_FILE!r}).read())"
    command = ["kubectl", "exec", "-n", namespace, pod, "--", "python3", "-c", script]
    done = subprocess.run(
        [sys.executable, "-m", "lab", *command], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
