"""Whether the NetworkPolicies of a cluster allow a new connection. Pure.

A connection needs both ends: the source's egress and the destination's ingress. Always allowed: a pod to itself, a pod
and its own node, and whatever side a pod on the host network or an address outside the cluster is on.

Where the API leaves a choice to the network plugin, the answer is the wider one, for this serves to find what may still
get through: a pod on the host network matches selectors as well as its node's address, and an ``ipBlock`` matches pod
addresses. The address of a Service is nobody's: ask for the pods behind it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

from ringfence.errors import TargetError
from ringfence.platform.kubernetes import policy_rules
from ringfence.platform.kubernetes.policies import Isolation, is_host_network, isolation_by
from ringfence.platform.kubernetes.policy_rules import (
    PROTOCOLS,
    Address,
    AnyPeer,
    Direction,
    IPBlock,
    Peer,
    PodPeer,
    PolicyError,
    PolicyRules,
)
from ringfence.platform.kubernetes.selectors import labels_of, printable

_FINISHED = ("Succeeded", "Failed")


@dataclass(frozen=True, slots=True)
class PodRef:
    """A pod by name. The uid plays no part: policies see names and labels."""

    namespace: str
    name: str


Endpoint: TypeAlias = PodRef | Address


@dataclass(frozen=True, slots=True)
class Flow:
    """A new connection to ``port`` (1 to 65535) of the destination over TCP, UDP or SCTP. Raises PolicyError."""

    source: Endpoint
    destination: Endpoint
    port: int
    protocol: str = "TCP"

    def __post_init__(self) -> None:
        if self.protocol not in PROTOCOLS or not 1 <= self.port <= 65535:
            raise PolicyError("not a connection that a NetworkPolicy governs", why=f"{self.protocol} {self.port}")


@dataclass(frozen=True, slots=True)
class _Pod:
    ref: PodRef
    labels: Mapping[str, str]
    addresses: frozenset[Address]
    node_addresses: frozenset[Address]
    host_network: bool
    finished: bool
    port_names: Mapping[tuple[str, int], frozenset[str]]


@dataclass(frozen=True, slots=True)
class _End:
    """One end of a connection: a pod, or an address that no running pod has."""

    addresses: frozenset[Address]
    pod: _Pod | None = None


class Connectivity:
    """Answers for one state of the cluster: parse once, ask often.

    ``policies``, ``pods`` and ``namespaces`` are raw objects of any number of namespaces. Policies are read when first
    needed, so one that cannot be read spoils only the answers about its own namespace.
    """

    def __init__(
        self,
        policies: Iterable[Mapping[str, Any]],
        pods: Iterable[Mapping[str, Any]],
        namespaces: Iterable[Mapping[str, Any]],
    ) -> None:
        self._policies: dict[str, list[Mapping[str, Any]]] = {}
        for policy in policies:
            self._policies.setdefault(policy_rules.key_of(policy)[0], []).append(policy)
        self._pods = {pod.ref: pod for pod in map(_read_pod, pods)}
        self._namespace_labels = {namespace["metadata"]["name"]: labels_of(namespace) for namespace in namespaces}
        self._by_address: dict[Address, list[_Pod]] = {}
        for pod in self._pods.values():
            for address in () if pod.finished else pod.addresses:
                self._by_address.setdefault(address, []).append(pod)
        self._rules: dict[str, tuple[PolicyRules, ...]] = {}
        self._isolation: dict[PodRef, Isolation] = {}

    def allows(self, flow: Flow) -> bool:
        """Whether all policies together let this connection through.

        Raises TargetError for a pod that was not given, PolicyError for a policy that cannot be read or a namespace
        whose labels a policy asks for and that was not given.
        """
        return any(
            self._side(Direction.EGRESS, source, destination, flow, destination)
            and self._side(Direction.INGRESS, destination, source, flow, destination)
            for source in self._ends(flow.source)
            for destination in self._ends(flow.destination)
        )

    def _ends(self, endpoint: Endpoint) -> tuple[_End, ...]:
        """Whom the endpoint may be. Several pods of a node's host network share one address."""
        if not isinstance(endpoint, PodRef):
            holders = self._by_address.get(endpoint, ())
            return tuple(_End(pod.addresses, pod) for pod in holders) or (_End(frozenset({endpoint})),)
        if endpoint not in self._pods:
            raise TargetError(
                f"pod {printable(endpoint.namespace)}/{printable(endpoint.name)} is not among the pods read",
                next_step="read the pods again, then the policies",
            )
        pod = self._pods[endpoint]
        return (_End(pod.addresses, pod),)

    def _side(self, direction: Direction, own: _End, other: _End, flow: Flow, destination: _End) -> bool:
        pod = own.pod
        if pod is None or pod.host_network or (other.pod is not None and other.pod.ref == pod.ref):
            return True
        if pod.node_addresses & other.addresses:
            return True
        isolation = self._isolation_of(pod)
        if not isolation.isolated(direction):
            return True
        names = destination.pod.port_names.get((flow.protocol, flow.port), ()) if destination.pod else ()
        return any(
            any(map(partial(self._is_peer, other), opening.peers))
            and any(port.matches(flow.protocol, flow.port, names) for port in opening.ports)
            for opening in isolation.opens(direction)
        )

    def _isolation_of(self, pod: _Pod) -> Isolation:
        if pod.ref not in self._isolation:
            namespace = pod.ref.namespace
            if namespace not in self._rules:
                self._rules[namespace] = tuple(map(policy_rules.parse, self._policies.get(namespace, ())))
            self._isolation[pod.ref] = isolation_by(
                rules for rules in self._rules[namespace] if rules.pod_selector.matches(pod.labels)
            )
        return self._isolation[pod.ref]

    def _is_peer(self, end: _End, peer: Peer) -> bool:
        match peer:
            case AnyPeer():
                return True
            case IPBlock():
                return any(address in peer for address in end.addresses)
            case PodPeer():
                return (
                    end.pod is not None
                    and peer.pod_selector.matches(end.pod.labels)
                    and self._in_namespaces(end.pod.ref.namespace, peer)
                )

    def _in_namespaces(self, namespace: str, peer: PodPeer) -> bool:
        if peer.namespace_selector is None:
            return namespace == peer.namespace
        if peer.namespace_selector.selects_everything:
            return True
        if namespace not in self._namespace_labels:
            raise PolicyError(
                f"a policy of {printable(peer.namespace)} cannot be evaluated",
                why=f"it asks for the labels of namespace {printable(namespace)}, which was not read",
                next_step="read the namespaces after the pods",
            )
        return peer.namespace_selector.matches(self._namespace_labels[namespace])


def allows(
    flow: Flow,
    policies: Iterable[Mapping[str, Any]],
    pods: Iterable[Mapping[str, Any]],
    namespaces: Iterable[Mapping[str, Any]],
) -> bool:
    """:meth:`Connectivity.allows` for a single question."""
    return Connectivity(policies, pods, namespaces).allows(flow)


def _read_pod(pod: Mapping[str, Any]) -> _Pod:
    meta, spec, status = pod["metadata"], pod.get("spec") or {}, pod.get("status") or {}
    names: dict[tuple[str, int], frozenset[str]] = {}
    # Init containers count: a sidecar is one (restartPolicy Always) and serves for as long as the pod lives.
    for container in (*(spec.get("containers") or ()), *(spec.get("initContainers") or ())):
        for port in container.get("ports") or ():
            if name := port.get("name"):
                key = (port.get("protocol") or "TCP", port["containerPort"])
                names[key] = names.get(key, frozenset()) | {name}
    return _Pod(
        ref=PodRef(meta["namespace"], meta["name"]),
        labels=labels_of(pod),
        addresses=_addresses(status, "podIP", "podIPs"),
        node_addresses=_addresses(status, "hostIP", "hostIPs"),
        host_network=is_host_network(pod),
        finished=status.get("phase") in _FINISHED,
        port_names=names,
    )


def _addresses(status: Mapping[str, Any], one: str, many: str) -> frozenset[Address]:
    texts = [entry.get("ip") for entry in status.get(many) or ()] + [status.get(one)]
    return frozenset(ipaddress.ip_address(text) for text in texts if text)
