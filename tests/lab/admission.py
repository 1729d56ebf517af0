"""Real admission for tests: Kyverno on the default lab, and a namespace that policies of lab/admission.py bind.

Nothing outside such a namespace is ever asked about, so other tests run beside these.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from lab import admission
from lab.admission import Policy
from lab.kube import ApiError, Kube, Object
from lab.layout import Lab
from tests.lab import ground
from tests.lab.profile import turned_on


@dataclass(frozen=True)
class BoundNamespace:
    """A namespace under real admission. ``kube`` acts as the cluster's administrator, whom policies bind too."""

    lab: Lab
    kube: Kube
    name: str

    def install(self, *policies: Policy) -> None:
        """Returns when Kyverno enforces all of them."""
        admission.install(self.kube, self.name, *policies)

    def remove(self, *policies: Policy) -> None:
        """Returns when Kyverno enforces none of them any more."""
        admission.remove(self.kube, self.name, *policies)

    def run(self, name: str, labels: dict[str, str], **content: Any) -> Object:
        """A pod that really runs, as it is when it is Ready; ``content`` as ``ground.pod`` takes it."""
        self.kube.create(ground.pod(name, self.name, labels, **content))
        return self.kube.wait_ready([name], self.name)[name]

    def labels(self, pod: str) -> dict[str, str]:
        """The labels of a pod as the API server has them now."""
        found: dict[str, str] = self.kube.get("v1", "Pod", pod, self.name)["metadata"].get("labels", {})
        return found

    def relabel(self, pod: str, labels: dict[str, str | None]) -> None:
        """Changes labels; None takes one away."""
        self.kube.patch("v1", "Pod", pod, self.name, body={"metadata": {"labels": labels}})

    def delete(self, pod: str, *, wait: float = 0.0) -> None:
        self.kube.delete("v1", "Pod", pod, self.name, grace_seconds=0, wait=wait)


@pytest.fixture(scope="module")
def kyverno(lab: Lab) -> Iterator[Lab]:
    """The default lab with Kyverno."""
    with turned_on(lab, "kyverno"):
        yield lab


@pytest.fixture
def bound_namespace(kyverno: Lab) -> Iterator[BoundNamespace]:
    """A new namespace without policies; afterwards it goes with all that is in it, policies first."""
    name = f"rf-bound-{uuid.uuid4().hex[:8]}"
    kube = Kube.of(kyverno)
    kube.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    try:
        admission.wait_service_account(kube, name)
        yield BoundNamespace(kyverno, kube, name)
    finally:
        admission.remove(kube, name, *admission.POLICIES)
        for pod in kube.list("v1", "Pod", name):
            kube.delete("v1", "Pod", pod["metadata"]["name"], name, grace_seconds=0)
        kube.delete("v1", "Namespace", name)
        kube.close()


def refusal(error: ApiError) -> tuple[int, str]:
    """The HTTP code and the text of what admission refused; any other error is raised again."""
    if admission.DENIED not in str(error):
        raise error
    return error.status, str(error)
