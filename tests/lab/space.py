"""A namespace of a test's own on the lab: pods that run, pods that no node ever runs, workloads, and what is in it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from lab import admission
from lab.images import PYTHON
from lab.kube import Kube, Object, is_ready, wait_until
from lab.layout import Lab

NETWORKING = "networking.k8s.io/v1"
READY_SECONDS = 120.0
_SLEEP = "import signal,sys,time; signal.signal(15, lambda *_: sys.exit()); time.sleep(9e5)"


@dataclass(frozen=True)
class Space:
    """``kube`` acts as the cluster's administrator: as the test, never as the responder."""

    lab: Lab
    kube: Kube
    name: str

    # --- what is there -------------------------------------------------------------
    def pods(self, **labels: str) -> dict[str, Object]:
        """The pods by name that have these labels and are not on their way out."""
        chosen = ",".join(f"{key}={value}" for key, value in labels.items())
        found = self.kube.list("v1", "Pod", self.name, labels=chosen)
        return {p["metadata"]["name"]: p for p in found if not p["metadata"].get("deletionTimestamp")}

    def pod(self, name: str) -> Object:
        return self.kube.get("v1", "Pod", name, self.name)

    def is_gone(self, name: str, uid: str = "") -> bool:
        live = self.kube.find("v1", "Pod", name, self.name)
        return live is None or (uid != "" and live["metadata"]["uid"] != uid)

    def policies(self) -> dict[str, Object]:
        """Name → what must be as before: uid, labels, annotations and spec."""
        return {
            p["metadata"]["name"]: {
                **{key: p["metadata"].get(key) for key in ("uid", "labels", "annotations")},
                "spec": p["spec"],
            }
            for p in self.kube.list(NETWORKING, "NetworkPolicy", self.name)
        }

    def fence_of(self, pod: str) -> str | None:
        """The value of the fence label that the pod carries now."""
        labels: dict[str, str] = self.pod(pod)["metadata"].get("labels") or {}
        return labels.get("ringfence.dev/fence")

    # --- making --------------------------------------------------------------------
    def idle(self, name: str, labels: dict[str, str], *, image: str = "none", account: str = "default") -> Object:
        """A pod that no node ever runs."""
        manifest = admission.idle_pod(name, self.name, labels)
        manifest["spec"]["containers"][0]["image"] = image
        manifest["spec"]["serviceAccountName"] = account
        return self.kube.create(manifest)

    def run(self, name: str, labels: dict[str, str], *, account: str = "default") -> Object:
        """A pod that really runs, without a controller, as it is when it is Ready."""
        manifest = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": self.name, "labels": labels},
            "spec": {**_spec(), "serviceAccountName": account},
        }
        self.kube.create(manifest)
        return self.kube.wait_ready([name], self.name, READY_SECONDS)[name]

    def account(self, name: str) -> None:
        self._create("v1", "ServiceAccount", name)

    def workload(
        self,
        name: str,
        replicas: int,
        *,
        kind: str = "Deployment",
        labels: dict[str, str] | None = None,
        selector: dict[str, str] | None = None,
        account: str = "default",
        idle: bool = False,
    ) -> Object:
        """``labels`` are those of its pods, ``selector`` (default: ``app``) those by which it knows them."""
        labels = {"app": name, **(labels or {})}
        spec = {**_spec(), "serviceAccountName": account}
        if idle:
            spec["schedulerName"] = "none"
        body: Object = {
            "replicas": replicas,
            "selector": {"matchLabels": selector or {"app": name}},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        }
        if kind == "StatefulSet":
            body["serviceName"] = name
        return self._create("apps/v1", kind, name, spec=body)

    def service(self, name: str) -> None:
        self._create("v1", "Service", name, spec={"selector": {"app": name}, "ports": [{"port": 80}]})

    def policy(self, name: str, spec: Object) -> None:
        self._create(NETWORKING, "NetworkPolicy", name, spec=spec)

    def _create(self, api_version: str, kind: str, name: str, **content: Any) -> Object:
        meta = {"name": name, "namespace": self.name}
        return self.kube.create({"apiVersion": api_version, "kind": kind, "metadata": meta, **content})

    # --- waiting -------------------------------------------------------------------
    def wait_pods(self, count: int, *, ready: bool = True, **labels: str) -> list[str]:
        """The names of just so many pods with these labels, as soon as all of them are there (and Ready)."""

        def there() -> bool:
            found = self.pods(**labels)
            return len(found) == count and (not ready or all(map(is_ready, found.values())))

        wait_until(there, READY_SECONDS, f"{count} pods with {labels} in {self.name}", interval=0.2)
        return sorted(self.pods(**labels))

    def wait_serving(self, service: str, count: int) -> None:
        """Until the Service has just so many ready endpoints."""

        def serving() -> bool:
            slices = self.kube.list(
                "discovery.k8s.io/v1", "EndpointSlice", self.name, labels=f"kubernetes.io/service-name={service}"
            )
            ready = [e for one in slices for e in one.get("endpoints") or () if e["conditions"].get("ready")]
            return len(ready) == count

        wait_until(serving, READY_SECONDS, f"{count} endpoints of {service} in {self.name}", interval=0.2)

    def wait_gone(self, pod: str) -> None:
        wait_until(lambda: self.is_gone(pod), READY_SECONDS, f"pod {pod} of {self.name} to be gone", interval=0.2)


@pytest.fixture
def space(lab: Lab) -> Iterator[Space]:
    """A new namespace with a policy for all of its pods; it goes with all that is in it."""
    kube = Kube.of(lab)
    name = f"rf-own-{uuid.uuid4().hex[:8]}"
    kube.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {"rf-own": name}}})
    try:
        admission.wait_service_account(kube, name)
        made = Space(lab, kube, name)
        # It selects every pod, so that it opens fenced ones as well unless it is told to pass over them.
        egress = [{"ports": [{"port": 53, "protocol": "UDP"}]}]
        made.policy("allow-dns", {"podSelector": {}, "policyTypes": ["Egress"], "egress": egress})
        yield made
    finally:
        kube.delete("v1", "Namespace", name)
        kube.close()


def _spec() -> Object:
    container = {"name": "main", "image": PYTHON, "imagePullPolicy": "Never", "command": ["python3", "-c", _SLEEP]}
    return {"terminationGracePeriodSeconds": 2, "containers": [container]}
