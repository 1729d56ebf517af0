"""What the NetworkPolicies of a namespace do to one pod. Pure; raw objects in, facts out.

Policies only ever allow. A pod is *isolated* in a direction once any policy of that type selects it; from then on
exactly what the rules of those policies allow gets through, all policies together. So a deny-all is undone by every
other policy that selects the pod and has a rule: each such rule is an :class:`Opening`, and a pod is cut only when it
is isolated both ways and no opening is left.

What this cannot know: whether a network plugin enforces policies at all, deny tiers of a plugin's own kinds, what
happens to connections that were open before, and traffic between the pod and its own node, which no policy stops.
A pod on the host network is not subject to policies.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ringfence.model.base import Json
from ringfence.platform.kubernetes import policy_rules
from ringfence.platform.kubernetes.policy_rules import (
    AnyPeer,
    Direction,
    IPBlock,
    Opening,
    Peer,
    PodPeer,
    PolicyError,
    PolicyRules,
    PortMatch,
    policy_types,
)
from ringfence.platform.kubernetes.selectors import labels_of

__all__ = [
    "AnyPeer",
    "Direction",
    "IPBlock",
    "Isolation",
    "Opening",
    "Peer",
    "PodPeer",
    "PolicyError",
    "PolicyRules",
    "PortMatch",
    "basis",
    "evaluate",
    "evaluate_labels",
    "is_host_network",
    "isolation_by",
    "policy_types",
    "selecting",
]

DNS_PORT = 53


@dataclass(frozen=True, slots=True)
class Isolation:
    """How far policies isolate a pod. A direction that is not isolated is open, and has no ``openings`` of its own."""

    ingress_isolated: bool
    egress_isolated: bool
    openings: tuple[Opening, ...] = ()
    host_network: bool = False

    def isolated(self, direction: Direction) -> bool:
        return self.ingress_isolated if direction is Direction.INGRESS else self.egress_isolated

    def opens(self, direction: Direction) -> tuple[Opening, ...]:
        return tuple(opening for opening in self.openings if opening.direction is direction)

    def shut(self, direction: Direction) -> bool:
        """Whether no new connection of this direction is allowed, but from and to the pod itself and its own node."""
        return self.isolated(direction) and not self.opens(direction)

    @property
    def cut(self) -> bool:
        """Shut both ways, as computed from the policies; enforcement is for others to show."""
        return all(map(self.shut, Direction))

    def allows_dns(self) -> bool:
        """Whether port 53 (UDP or TCP) is possibly open to anything. A named port may stand for 53."""
        return not self.egress_isolated or any(
            port.may_match(protocol, DNS_PORT)
            for opening in self.opens(Direction.EGRESS)
            for port in opening.ports
            for protocol in ("UDP", "TCP")
        )


def selecting(
    policies: Iterable[Mapping[str, Any]], *, namespace: str, labels: Mapping[str, str]
) -> tuple[Mapping[str, Any], ...]:
    """The policies that select a pod of this namespace with these labels, in the given order.

    Raises PolicyError for a policy of this namespace whose selector cannot be read.
    """
    return tuple(
        policy
        for policy in policies
        if policy_rules.key_of(policy)[0] == namespace and policy_rules.pod_selector(policy).matches(labels)
    )


def evaluate(pod: Mapping[str, Any], policies: Iterable[Mapping[str, Any]]) -> Isolation:
    """What ``policies`` (of any namespaces) do to ``pod``. Raises PolicyError."""
    if is_host_network(pod):
        return Isolation(ingress_isolated=False, egress_isolated=False, host_network=True)
    return evaluate_labels(pod["metadata"]["namespace"], labels_of(pod), policies)


def evaluate_labels(namespace: str, labels: Mapping[str, str], policies: Iterable[Mapping[str, Any]]) -> Isolation:
    """What ``policies`` would do to a pod of ``namespace`` if it had these labels. Raises PolicyError."""
    return isolation_by(map(policy_rules.parse, selecting(policies, namespace=namespace, labels=labels)))


def isolation_by(rules: Iterable[PolicyRules]) -> Isolation:
    """The isolation that these policies together give a pod that all of them select."""
    selecting_it = tuple(rules)
    return Isolation(
        ingress_isolated=any(Direction.INGRESS in policy.types for policy in selecting_it),
        egress_isolated=any(Direction.EGRESS in policy.types for policy in selecting_it),
        openings=tuple(opening for policy in selecting_it for opening in policy.openings),
    )


def is_host_network(pod: Mapping[str, Any]) -> bool:
    """Whether the pod shares its node's network, which policies do not govern."""
    return bool((pod.get("spec") or {}).get("hostNetwork"))


def basis(pod: Json, present: Iterable[Json]) -> str:
    """A fingerprint of what keeps a pod's packets in (what a canary examines): the pod, its labels, its node, and the
    policies that select it.

    Raises PolicyError for a policy that cannot be read.
    """
    meta = pod["metadata"]
    chosen = selecting(present, namespace=meta["namespace"], labels=labels_of(pod))
    content = {
        "uid": meta["uid"],
        "labels": dict(labels_of(pod)),
        "node": (pod.get("spec") or {}).get("nodeName", ""),
        "policies": sorted(
            [str(policy["metadata"].get("uid", "")), json.dumps(policy.get("spec"), sort_keys=True)]
            for policy in chosen
        ),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
