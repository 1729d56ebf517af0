"""Who responds in a demo: a service account that has what ``ringfence rbac`` renders, and nothing else."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from lab import accounts, certificates
from lab.admission import wait_service_account
from lab.demo.common import Place, program
from lab.errors import LabError
from lab.kube import Conflict, Kube
from lab.layout import Lab

NAMESPACE = "ringfence-demo"
RESPONDER = "responder"
HELPERS = "ringfence-node"
Objects = list[dict[str, Any]]


def appoint(lab: Lab, kube: Kube, place: Place) -> Path:
    """The responder's kubeconfig. The rights are those of the configuration that lies in ``place``."""
    for name in (NAMESPACE, HELPERS):
        _make(kube, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        wait_service_account(kube, name)
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": RESPONDER, "namespace": NAMESPACE}}
    _make(kube, account)
    for manifest in _rendered(place):
        kube.apply(manifest)
    accounts.write_kubeconfig(lab, kube, RESPONDER, NAMESPACE, RESPONDER)
    return certificates.kubeconfig_of(lab, RESPONDER)


@contextmanager
def rights_of_node_helper(kube: Kube, place: Place) -> Iterator[None]:
    """Bound while the block runs, and not a moment longer."""
    manifests = _rendered(place, "--node-helper")
    print(f"the rights of the node helper are bound: {', '.join(one['kind'] for one in manifests)} in {HELPERS}")
    for manifest in manifests:
        kube.apply(manifest)
    try:
        yield
    finally:
        for manifest in reversed(manifests):
            meta = manifest["metadata"]
            kube.delete(manifest["apiVersion"], manifest["kind"], meta["name"], meta.get("namespace", ""))
        print("the rights of the node helper are gone")


def _rendered(place: Place, *options: str) -> Objects:
    command = [program("ringfence"), "rbac", *options, "--service-account", f"{NAMESPACE}/{RESPONDER}"]
    done = subprocess.run([*command, "--config", str(place.config)], check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise LabError(f"ringfence rbac ended with {done.returncode}: {done.stderr.strip()}")
    return [manifest for manifest in yaml.safe_load_all(done.stdout) if manifest]


def _make(kube: Kube, manifest: dict[str, Any]) -> None:
    try:
        kube.create(manifest)
    except Conflict:
        return
