"""Real GitOps for tests: Argo CD on the default lab, and a namespace whose part of the bank it delivers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from lab import gitops
from lab.argocd_controller import API_VERSION, NAMESPACE
from lab.gitops import Delivered, Variant
from lab.images import MENDED_BANK
from lab.kube import Object, wait_until
from lab.layout import Lab
from tests.lab.profile import turned_on
from tests.lab.space import Space

DEPLOYMENT = "loans"
POLICIES: dict[str, Any] = {
    # Both select every pod, whatever a cut does to its labels. Argo CD minds one requirement more only in the first.
    "dns-listed": {"matchExpressions": [{"key": "no-dns", "operator": "DoesNotExist"}]},
    "dns-empty": {},
}
HEALED_SECONDS = 30.0
STEADY_SECONDS = 8.0


@pytest.fixture(scope="module")
def argocd(lab: Lab) -> Iterator[Lab]:
    """The default lab with Argo CD."""
    with turned_on(lab, "argocd"):
        yield lab


@dataclass
class Estate:
    """A namespace into which Argo CD delivers the loans service and a policy that opens DNS for all its pods."""

    space: Space
    delivered: Delivered
    before: dict[str, Object] = field(default_factory=dict)

    def applications(self) -> dict[str, Object]:
        """What is above the namespace's workload, by kind and name: the spec alone."""
        wanted = [("Application", self.delivered.application), *([self.delivered.top] if self.delivered.top else [])]
        kube = self.space.kube
        return {f"{kind} {name}": kube.get(API_VERSION, kind, name, NAMESPACE)["spec"] for kind, name in wanted}

    def replicas(self) -> int:
        found: int = self.space.kube.get("apps/v1", "Deployment", DEPLOYMENT, self.space.name)["spec"]["replicas"]
        return found

    def scale(self, replicas: int) -> None:
        body = {"spec": {"replicas": replicas}}
        self.space.kube.patch("apps/v1", "Deployment", DEPLOYMENT, self.space.name, body=body)

    def policy(self, name: str) -> Any:
        return self.space.policies()[name]["spec"]

    def wait_healed(self, healed: Any) -> None:
        wait_until(healed, HEALED_SECONDS, "Argo CD to put it back")

    def stays(self, holds: Any) -> None:
        """For longer than Argo CD takes to heal."""
        deadline = time.monotonic() + STEADY_SECONDS
        while time.monotonic() < deadline:
            assert holds(), "Argo CD has put it back"
            time.sleep(0.1)

    def commit(self) -> str:
        """Another revision, so that whoever syncs by itself has something to do."""
        marker = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "delivered-later", "namespace": self.space.name},
        }
        content = {f"{gitops.WORKLOAD_FOLDER}/later.yaml": marker}
        return gitops.commit(self.delivered.repository, content, "something else")


def mended(estate: Estate) -> str:
    """The workload with the image of the mended bank, committed: the commit."""
    manifests = gitops.copy_of_bank(estate.space.name, DEPLOYMENT)
    (deployment,) = [manifest for manifest in manifests if manifest["kind"] == "Deployment"]
    for container in deployment["spec"]["template"]["spec"]["containers"]:
        container["image"] = MENDED_BANK
    content = {f"{gitops.WORKLOAD_FOLDER}/deployment-{DEPLOYMENT}.yaml": deployment}
    return gitops.commit(estate.delivered.repository, content, "the hole is closed")


def established(space: Space, variant: Variant) -> Estate:
    wanted = gitops.copy_of_bank(space.name, DEPLOYMENT, "00-namespace")
    policies = [
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {"name": name, "namespace": space.name},
            "spec": {
                "podSelector": selector,
                "policyTypes": ["Egress"],
                "egress": [{"ports": [{"port": 53, "protocol": "UDP"}]}],
            },
        }
        for name, selector in POLICIES.items()
    ]
    made = Estate(space, gitops.deliver(space.lab, space.kube, space.name, [*wanted, *policies], variant))
    space.kube.wait_ready(list(space.pods(app=DEPLOYMENT)), space.name)
    made.before = made.applications()
    return made
