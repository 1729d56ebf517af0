"""Brings the bank up from its manifests: applied server-side, secrets made once, done when customers are served."""

from __future__ import annotations

import secrets
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import yaml

from lab import images
from lab.errors import LabError
from lab.kube import Conflict, Kube, Object, Objects, wait_until
from lab.layout import Lab

NAMESPACE = "bank"
MANIFESTS = Path(__file__).with_name("manifests")
READY_SECONDS = 90.0
CUSTOMER_SECONDS = 90.0
WORKLOADS = ("Deployment", "StatefulSet")

# In the pods' template, so that new code in the image of the same name rolls the pods over.
IMAGE_ANNOTATION = "ringfence.local/image"

# Secret → its keys and the number of random bytes of each; made once, never in a file.
SECRETS = {"cards-db": {"password": 24}, "card-scheme": {"signing-key": 32}}


def deploy(lab: Lab) -> None:
    """Makes the bank what its manifests say, and waits until the gateway answers. Its images must be there
    (``lab.images.ensure``). Running it again changes nothing.

    Raises:
        LabError: a workload is not ready after 90 s, or the gateway does not answer 90 s later.
    """
    kube = Kube.of(lab)
    try:
        apply(kube)
        wait_ready(kube)
        _wait_for_customers(gateway_url(lab))
    finally:
        kube.close()


def manifests() -> Objects:
    """Every object of the bank except its Secrets, in the order in which they are applied."""
    loaded = [
        manifest for file in sorted(MANIFESTS.glob("*.yaml")) for manifest in yaml.safe_load_all(file.read_text())
    ]
    image = images.build(images.describe(images.BANK)).digest
    for manifest in loaded:
        if manifest["kind"] in WORKLOADS:
            template = manifest["spec"]["template"]["metadata"]
            template["annotations"] = {**template.get("annotations", {}), IMAGE_ANNOTATION: image}
    return loaded


def apply(kube: Kube) -> None:
    """Applies all manifests, Secrets before the pods that need them."""
    for manifest in manifests():
        kube.apply(manifest)
        if manifest["kind"] == "Namespace":
            _ensure_secrets(kube)


def wait_ready(kube: Kube) -> None:
    """Waits until every replica of the newest revision is ready and older ones are gone.

    Raises:
        LabError: that took more than 90 s; with the pods that are late.
    """
    deadline = time.monotonic() + READY_SECONDS
    while late := [name for kind in WORKLOADS for name in _late(kube, kind)]:
        if time.monotonic() > deadline:
            raise LabError(
                f"{', '.join(late)} of namespace {NAMESPACE} not ready after {READY_SECONDS:.0f} s ({_pods(kube)}):"
                f" kubectl -n {NAMESPACE} describe pods"
            )
        time.sleep(0.1)


def gateway_url(lab: Lab) -> str:
    """The gateway's address for this machine and for the attacker's host: its ClusterIP.

    Raises:
        LabError: the bank is not deployed.
    """
    kube = Kube.of(lab)
    try:
        service = kube.find("v1", "Service", "gateway", NAMESPACE)
    finally:
        kube.close()
    if service is None:
        raise LabError(f"lab {lab.name} has no bank: run `python -m lab up`")
    return f"http://{service['spec']['clusterIP']}:{service['spec']['ports'][0]['port']}"


def _ensure_secrets(kube: Kube) -> None:
    for name, keys in SECRETS.items():
        if kube.find("v1", "Secret", name, NAMESPACE) is None:
            values = {key: secrets.token_urlsafe(length) for key, length in keys.items()}
            metadata = {"name": name, "namespace": NAMESPACE}
            try:
                kube.create({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": values})
            except Conflict:
                continue  # Another deploy was faster; its values are as good.


def _late(kube: Kube, kind: str) -> list[str]:
    return [
        f"{kind} {workload['metadata']['name']}"
        for workload in kube.list("apps/v1", kind, NAMESPACE, labels="app")
        if not _is_ready(workload)
    ]


def _is_ready(workload: Object) -> bool:
    wanted, status = workload["spec"]["replicas"], workload["status"]
    counts = (status.get("replicas", 0), status.get("updatedReplicas", 0), status.get("readyReplicas", 0))
    return status.get("observedGeneration", 0) >= workload["metadata"]["generation"] and set(counts) == {wanted}


def _pods(kube: Kube) -> str:
    def state(pod: dict[str, Any]) -> str:
        statuses = [*pod["status"].get("initContainerStatuses", ()), *pod["status"].get("containerStatuses", ())]
        waiting = [status["state"]["waiting"].get("reason", "?") for status in statuses if "waiting" in status["state"]]
        return " ".join([pod["metadata"]["name"], pod["status"].get("phase", "?"), *waiting])

    return ", ".join(state(pod) for pod in kube.list("v1", "Pod", NAMESPACE)) or "no pods"


def _wait_for_customers(url: str) -> None:
    def served() -> bool:
        try:
            with urllib.request.urlopen(f"{url}/overview/1", timeout=2) as answer:
                return bool(answer.status == 200)
        except urllib.error.HTTPError as error:
            error.close()
        except OSError:
            pass
        return False

    wait_until(served, CUSTOMER_SECONDS, f"{url}/overview/1 to answer (do names resolve in the bank's pods?)")
