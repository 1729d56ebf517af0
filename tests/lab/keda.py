"""KEDA's kinds on the default lab, and something that keeps its rules about pauses.

KEDA itself is not built here. The real API server serves kinds of its group and names, whose schema lets everything
through; the stand-in scales as ``executor/scale_scaledobjects.go`` does as far as pauses go: up to the least number
while it is not paused, not at all while it is, to the number that ``paused-replicas`` holds, and it reports the pause.
"""

from __future__ import annotations

import fcntl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.kube import Kube, Object, wait_until
from lab.layout import Lab

API_VERSION = "keda.sh/v1alpha1"
EXTENSIONS = "apiextensions.k8s.io/v1"
KINDS = {"scaledobjects": "ScaledObject", "scaledjobs": "ScaledJob"}
PAUSED, HELD = "autoscaling.keda.sh/paused", "autoscaling.keda.sh/paused-replicas"
_ANYTHING = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
_SERVED_SECONDS = 30.0


@pytest.fixture(scope="module")
def keda(lab: Lab) -> Iterator[Lab]:
    """The default lab with KEDA's kinds; without them again after the last who uses them, if they were not there."""
    kube = Kube.of(lab)
    with Path("/run/lock/ringfence-lab-keda-tests.lock").open("a+") as users:
        fcntl.flock(users, fcntl.LOCK_SH)
        for plural, kind in KINDS.items():
            kube.apply(_definition(plural, kind))
        wait_until(lambda: _is_served(lab), _SERVED_SECONDS, "KEDA's kinds to be served")
        try:
            yield lab
        finally:
            _leave(kube, users.fileno())
            kube.close()


def _leave(kube: Kube, users: int) -> None:
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return  # The last one takes them away.
    for plural in KINDS:
        kube.delete(EXTENSIONS, "CustomResourceDefinition", f"{plural}.keda.sh", wait=_SERVED_SECONDS)


def _is_served(lab: Lab) -> bool:
    anew = Kube.of(lab)  # One that has asked before what is served keeps the answer.
    try:
        return all(anew.find(API_VERSION, kind, "nothing", "default") is None for kind in KINDS.values())
    except Exception:
        return False
    finally:
        anew.close()


def _definition(plural: str, kind: str) -> Object:
    properties = {"spec": _ANYTHING, "status": _ANYTHING}
    version = {
        "name": "v1alpha1",
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "schema": {"openAPIV3Schema": {"type": "object", "properties": properties}},
    }
    names = {"plural": plural, "singular": kind.lower(), "kind": kind, "listKind": f"{kind}List"}
    return {
        "apiVersion": EXTENSIONS,
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.keda.sh"},
        "spec": {"group": "keda.sh", "scope": "Namespaced", "names": names, "versions": [version]},
    }


class StandIn:
    """Scales the Deployments of a namespace by their ScaledObjects while it runs."""

    def __init__(self, lab: Lab, namespace: str) -> None:
        self._lab, self._namespace = lab, namespace
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.errors: list[Exception] = []

    def __enter__(self) -> StandIn:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        kube = Kube.of(self._lab)
        while not self._stop.wait(0.2):
            try:
                for scaler in kube.list(API_VERSION, KINDS["scaledobjects"], self._namespace):
                    self._reconcile(kube, scaler)
            except Exception as error:
                self.errors.append(error)
        kube.close()

    def _reconcile(self, kube: Kube, scaler: Object) -> None:
        meta, spec = scaler["metadata"], scaler["spec"]
        marks: dict[str, Any] = meta.get("annotations") or {}
        paused = HELD in marks or marks.get(PAUSED) == "true"
        conditions = [{"type": "Paused", "status": str(paused)}]
        if (scaler.get("status") or {}).get("conditions") != conditions:
            body = {"status": {"conditions": conditions}}
            kube.patch(API_VERSION, scaler["kind"], meta["name"], self._namespace, body=body, subresource="status")
        name = spec["scaleTargetRef"]["name"]
        now = kube.get("apps/v1", "Deployment", name, self._namespace)["spec"]["replicas"]
        least = spec["minReplicaCount"]
        wanted = int(marks[HELD]) if HELD in marks else now if paused else max(now, least)
        if wanted != now:
            kube.patch("apps/v1", "Deployment", name, self._namespace, body={"spec": {"replicas": wanted}})
