"""The enforcer's loop: wake on a change, resolve, render, replace, tell; check now and then that the rules hold."""

from __future__ import annotations

import logging
import threading
import time
from datetime import UTC, datetime

from lab.enforcer import status
from lab.enforcer.cni import CniAddresses
from lab.enforcer.kernel import Kernel, KernelRefused
from lab.enforcer.model import UnknownField, parse_pod, parse_policy
from lab.enforcer.render import Flows, chain_names, render
from lab.enforcer.resolve import resolve
from lab.enforcer.watch import NAMESPACES, PODS, POLICIES, Mirrors
from lab.kube import Kube
from lab.layout import Lab

log = logging.getLogger(__name__)

# How often the network plugin's folder is looked at: several times between a pod's address and its first container.
TICK = 0.02
# A burst of events (a deployment's pods) becomes one replacement.
DEBOUNCE = 0.01
HEAL_SECONDS = 2.0


class Enforcer:
    """NetworkPolicy of one lab's node. Everything runs in the thread that calls ``run``."""

    def __init__(self, lab: Lab, kube: Kube, flows: Flows) -> None:
        self._lab = lab
        self._flows = flows
        self._mirrors = Mirrors(kube, PODS, NAMESPACES, POLICIES)
        self._cni = CniAddresses(lab)
        self._kernel = Kernel(lab.node_netns)
        self._installed = self._kernel.chains()
        self._in_force: str | None = None
        self._listing: str | None = None
        last = status.read(lab)
        self._generation = last.generation if last else 0
        self._applied_at = last.applied_at if last else ""

    def run(self, stopping: threading.Event) -> None:
        """Enforces until ``stopping`` is set. The rules stay in the kernel, so a restart opens nothing."""
        self._mirrors.start()
        looked = time.monotonic()
        pending = known = False
        while not stopping.is_set():
            changed = self._mirrors.wait(TICK)
            known = known or changed
            pending |= changed | self._cni.refresh()
            if known and pending:
                time.sleep(DEBOUNCE)
                self._mirrors.wait(0)
                pending = not self._enforce()
            if known and time.monotonic() - looked > HEAL_SECONDS:
                looked = time.monotonic()
                pending |= self._heal()
        self._mirrors.stop()

    def _enforce(self) -> bool:
        """Puts the cluster's present state in force. Whether that is done; what was before stays in force otherwise."""
        snapshot = self._mirrors.snapshot()
        try:
            parsed = (parse_pod(item, self._cni.by_uid) for item in snapshot.objects[PODS])
            pods = [pod for pod in parsed if pod is not None]
            policies = [parse_policy(item) for item in snapshot.objects[POLICIES]]
            labels = {
                item["metadata"]["name"]: item["metadata"].get("labels") or {} for item in snapshot.objects[NAMESPACES]
            }
            isolations = resolve(pods, labels, policies)
        except UnknownField as error:
            log.error("the last rules stay in force: %s", error)
            return True  # Nothing changes by trying again; the next event will.
        # Without the leftovers of before, equal text means equal rules.
        wanted = render(isolations, self._flows)
        if wanted != self._in_force:
            try:
                self._kernel.replace(render(isolations, self._flows, self._installed))
            except KernelRefused as error:
                log.error("the last rules stay in force: %s", error)
                time.sleep(TICK)
                return False
            self._installed = chain_names(isolations)
            self._in_force = wanted
            self._listing = self._kernel.listing()
            self._generation += 1
            self._applied_at = datetime.now(UTC).isoformat(timespec="milliseconds")
            log.info("generation %d: %d policies, %d pods", self._generation, len(policies), len(pods))
        status.write(
            self._lab,
            status.Status(
                generation=self._generation,
                applied_at=self._applied_at,
                policies=len(policies),
                pods=len(pods),
                flows=self._flows.value,
                pods_version=snapshot.versions[PODS],
                namespaces_version=snapshot.versions[NAMESPACES],
                policy_versions={
                    f"{item['metadata']['namespace']}/{item['metadata']['name']}": item["metadata"]["resourceVersion"]
                    for item in snapshot.objects[POLICIES]
                },
            ),
        )
        return True

    def _heal(self) -> bool:
        """Whether the kernel's table is not the one that was written, so that it has to be written again."""
        if self._in_force is None or self._kernel.listing() == self._listing:
            return False
        log.warning("the rules in %s are not those that were written: writing them again", self._lab.node_netns)
        self._in_force = None
        self._installed |= self._kernel.chains()
        return True
