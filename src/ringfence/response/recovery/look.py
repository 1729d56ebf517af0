"""A fresh look at what runs: the same questions to the canary, to all pods, and again and again in the watch window."""

from __future__ import annotations

from dataclasses import dataclass

from ringfence.errors import PlatformError
from ringfence.model.base import Json
from ringfence.model.objects import ObjectRef
from ringfence.platform.kubernetes import policy_reports
from ringfence.platform.kubernetes.pods import containers, digests, image_names, is_ready, node_access
from ringfence.platform.kubernetes.policies import Direction, evaluate
from ringfence.platform.kubernetes.proxy import Said, ask, way_of
from ringfence.platform.kubernetes.resources import NETWORK_POLICY
from ringfence.platform.kubernetes.selectors import printable
from ringfence.response.context import Context
from ringfence.response.recovery.scope import Restored, Scope

_ASKED = 3
"""How many pods of a workload get a real request."""


@dataclass(frozen=True)
class Sign:
    """Something of the attacker at one pod, or that an attacker could use. ``returned``: it is what the incident was
    about, and no matter of taste: the pod is cut off for it in the watch window."""

    pod: ObjectRef
    what: str
    returned: bool


@dataclass(frozen=True)
class Looked:
    """``ready`` of ``wanted`` pods; what was found; what real requests were answered; what could not be looked at."""

    ref: ObjectRef
    wanted: int
    ready: int
    signs: tuple[Sign, ...]
    said: tuple[Said, ...]
    unseen: tuple[str, ...]

    @property
    def is_up(self) -> bool:
        """As many as are asked for."""
        return self.ready >= self.wanted


def bad_digests(found: Scope, *, accepted: bool) -> frozenset[str]:
    """The digests that must not run again: those of the suspects, unless somebody has taken their image on."""
    return frozenset() if accepted else frozenset(one for _, pod in found.suspects for one in digests(pod))


def look(
    context: Context, one: Restored, found: Scope, *, accepted: bool, probe: str = "", requests: bool = True
) -> Looked:
    """One workload with its pods. Raises nothing of the platform: what cannot be read is in ``unseen``.

    ``requests``: real ones are sent, once as many pods are ready as are asked for.
    """
    unseen = []
    reports: tuple[Json, ...] = ()
    try:
        reports = policy_reports.read(context.cluster, one.ref.namespace)
    except PlatformError as error:
        unseen.append(f"policy reports: {error}")
    against = policy_reports.against(reports, {one.ref.uid, *(pod["metadata"]["uid"] for pod in one.pods)})
    signs = [sign for pod in one.pods for sign in signs_of(context, pod, found, accepted=accepted)]
    signs += [Sign(one.ref, f"breaks a policy: {words}", False) for words in against]
    said = []
    ready = [pod for pod in one.pods if is_ready(pod)]
    wanted = _wanted(one.obj)
    for pod in ready[:_ASKED] if requests and len(ready) >= wanted and context.policy.real_requests else ():
        way = way_of(pod, probe)
        if way is None:
            unseen.append(f"{printable(pod['metadata']['name'])}: no HTTP path is known for a real request (--probe)")
            continue
        said.append(ask(context.cluster, pod, way, shielded=_is_shielded(context, pod)))
        if not said[-1].tried:
            break  # the next one is in the same place
    unseen += [f"a real request was not possible: {one.why}" for one in said if not one.tried]
    if ready and not context.policy.real_requests:
        unseen.append("real requests are switched off (recovery.real_requests)")
    return Looked(
        ref=one.ref,
        wanted=wanted,
        ready=len(ready),
        signs=tuple(signs),
        said=tuple(one for one in said if one.tried),
        unseen=tuple(dict.fromkeys(unseen)),
    )


def _is_shielded(context: Context, pod: Json) -> bool:
    """Whether a NetworkPolicy isolates the pod from new connections; also when that cannot be read."""
    try:
        policies = context.cluster.list(NETWORK_POLICY, pod["metadata"]["namespace"])
        return evaluate(pod, policies).isolated(Direction.INGRESS)
    except PlatformError:
        return True


def signs_of(context: Context, pod: Json, found: Scope, *, accepted: bool) -> tuple[Sign, ...]:
    """What is to be said against one pod."""
    ref = ObjectRef.of(context.cluster_id, {"apiVersion": "v1", "kind": "Pod", **pod})
    signs = []
    same = digests(pod) & bad_digests(found, accepted=accepted)
    named = frozenset() if accepted else image_names(pod) & found.images
    if same or named:
        which = ", ".join(printable(one) for one in sorted(same or named))
        signs.append(Sign(ref, f"runs the suspects' image ({which})", True))
    added = [printable(container.name) for container in containers(pod, ("ephemeralContainers",))]
    if added:
        signs.append(Sign(ref, f"somebody has put a container into it: {', '.join(added)}", True))
    return (*signs, *(Sign(ref, f"reaches into its node: {words}", False) for words in node_access(pod)))


def _wanted(obj: Json) -> int:
    """How many pods are asked for; none of a Job or CronJob, whose pods come and go."""
    match obj["kind"]:
        case "Deployment" | "StatefulSet" | "ReplicaSet":
            return int((obj.get("spec") or {}).get("replicas", 1))
        case "DaemonSet":
            return int((obj.get("status") or {}).get("desiredNumberScheduled", 0))
        case _:
            return 0
