"""Every enabled action, planned on what really runs: each request of a plan is a server-side dry run, which RBAC,
validation and admission answer as they would at night. Nothing is changed, and no token is minted.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

from ringfence.actions.base import Action, Settings
from ringfence.actions.fence import FENCE_KEY
from ringfence.actions.registry import ACTIONS
from ringfence.errors import Denied, RingfenceError
from ringfence.model.base import Json
from ringfence.model.objects import ObjectRef
from ringfence.model.outcome import Already, Refused
from ringfence.model.plan import Plan, Verb
from ringfence.platform.kubernetes.client import Cluster
from ringfence.platform.kubernetes.owners import controller_of
from ringfence.platform.kubernetes.pods import is_finished
from ringfence.platform.kubernetes.resources import NODE, POD, Resource
from ringfence.platform.kubernetes.selectors import printable
from ringfence.platform.kubernetes.surroundings import Surroundings
from ringfence.platform.kubernetes.workloads import WORKLOADS
from ringfence.response import guard
from ringfence.response.context import Policy
from ringfence.response.readiness.admission import Denial, Wanted, denials, exemption
from ringfence.response.readiness.findings import Finding, Level, fail, ok, warn

MOST = 25
"""Objects of one kind in one namespace that an action is tried on."""

_OPERATIONS = {Verb.CREATE: "CREATE", Verb.PATCH: "UPDATE", Verb.DELETE: "DELETE"}
_WRITES: dict[str, tuple[tuple[str, ...], tuple[Verb, ...]]] = {
    "network.quarantine": (("Pod", "NetworkPolicy"), (Verb.CREATE, Verb.PATCH, Verb.DELETE)),
    "pod.delete": (("Pod",), (Verb.DELETE,)),
    "identity.cut": (
        ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"),
        (Verb.CREATE, Verb.DELETE),
    ),
    "identity.unbind": (("RoleBinding", "ClusterRoleBinding"), (Verb.CREATE, Verb.PATCH, Verb.DELETE)),
    "identity.recreate_account": (("ServiceAccount",), (Verb.CREATE, Verb.DELETE)),
    "identity.delete_tokens": (("Secret",), (Verb.DELETE,)),
}
"""What an exemption must cover: kinds and verbs of an action's writes; the others patch their own target."""


@dataclass(frozen=True)
class Stage:
    """Where it is rehearsed. ``user`` is the name that the cluster knows us by."""

    cluster: Cluster
    cluster_id: str
    user: str
    policy: Policy
    pool: ThreadPoolExecutor


@dataclass(frozen=True)
class Candidate:
    """A real object, and the words for it: a pod stands for all pods of its controller."""

    ref: ObjectRef
    obj: Json
    words: str


@dataclass
class _Tally:
    """What became of one action in one namespace."""

    works: list[str] = field(default_factory=list)
    already: dict[str, str] = field(default_factory=dict)
    not_for: dict[str, str] = field(default_factory=dict)
    untried: list[str] = field(default_factory=list)
    denied: dict[str, list[str]] = field(default_factory=dict)
    refused: dict[Denial, list[str]] = field(default_factory=dict)
    refused_words: dict[Denial, str] = field(default_factory=dict)
    bent: dict[Denial, list[str]] = field(default_factory=dict)


def rehearse(stage: Stage, names: Sequence[str], namespaces: Sequence[str]) -> Iterator[Finding]:
    """A finding for each action and namespace, and one for each policy that stands in the way."""
    for namespace in namespaces:
        try:
            candidates, left_out = _candidates(stage, namespace)
        except RingfenceError as error:
            yield warn(f"rehearsal: {namespace}", f"not tried: {error}", error.next_step or "see the rights above")
            continue
        if left_out:
            yield ok(f"rehearsal: {namespace}", f"not tried: {'; '.join(left_out)}")
        if not candidates:
            yield warn(
                f"rehearsal: {namespace}", "nothing runs there that could be tried", "doctor -n a namespace with pods"
            )
            continue
        for name in names:
            yield from _rehearse(stage, name, namespace, candidates)


def _rehearse(stage: Stage, name: str, namespace: str, candidates: Sequence[Candidate]) -> Iterator[Finding]:
    settings = Settings(fence=secrets.token_hex(8), serving_floor=stage.policy.serving_floor, accept_same_image=True)
    action = ACTIONS[name](stage.cluster, settings)
    tried = [one for one in candidates if one.ref.kind in action.kinds]
    if not tried:
        kinds = ", ".join(sorted(action.kinds))
        yield ok(f"{name}: {namespace}", f"not tried: there is no {kinds} that it could be tried on")
        return
    tally = _Tally()
    for candidate in tried:
        _try(stage, action, candidate, tally)
    yield from _told(stage, action, namespace, tally)


def _try(stage: Stage, action: Action[Any], candidate: Candidate, tally: _Tally) -> None:
    try:
        around = action.look(stage.cluster_id, candidate.ref, stage.pool)
        plan = action.plan(candidate.ref, _as_at_night(action, around))
    except Denied as error:
        tally.denied.setdefault(str(error), []).append(candidate.words)
        return
    except RingfenceError as error:
        tally.untried.append(f"{candidate.words}: {error}")
        return
    match plan:
        case Plan():
            tally.works.append(candidate.words)
            for denial in denials(plan.rationale):
                tally.bent.setdefault(denial, []).append(candidate.words)
        case Already(reason=reason):
            tally.already[candidate.words] = reason
        case Refused(reason=reason):
            found = denials(reason)
            if not found:
                tally.not_for[candidate.words] = reason
            for denial in found:
                tally.refused.setdefault(denial, []).append(candidate.words)
                tally.refused_words.setdefault(denial, reason)


def _as_at_night(action: Action[Any], around: Any) -> Any:
    """A pod is deleted only when it is fenced: that it is, is pretended, or nothing would be sent."""
    if action.name != "pod.delete" or not isinstance(around, Surroundings):
        return around
    meta = around.pod["metadata"]
    labels = {**(meta.get("labels") or {}), FENCE_KEY: action.settings.fence}
    return replace(around, pod={**around.pod, "metadata": {**meta, "labels": labels}})


def _told(stage: Stage, action: Action[Any], namespace: str, tally: _Tally) -> Iterator[Finding]:
    check = f"{action.name}: {namespace}"
    said = []
    if tally.works:
        said.append(f"dry run passed on {_listed(tally.works, most=1)}")
    if tally.already:
        said.append(f"nothing to do on {_listed(list(tally.already), most=1)}")
    if tally.not_for:
        why = [f"{words}: {reason}" for words, reason in tally.not_for.items()]
        said.append(f"by design not for {_listed(why, '; ', most=2)}")
    if tally.untried:
        said.append(f"could not be tried on {_listed(tally.untried, '; ')}")
    for words, where in tally.denied.items():
        yield fail(check, f"RBAC refuses it on {_listed(where)}: {words}", "ringfence rbac renders the rights")
    for denial, where in tally.refused.items():
        ask, manifest = exemption(denial, _wanted(stage, action, namespace, where))
        yield fail(
            check,
            f"{denial} refuses it on {_listed(where)}: {tally.refused_words[denial]}",
            ask,
            exemption=manifest,
        )
    for denial, where in tally.bent.items():
        ask, manifest = exemption(denial, _wanted(stage, action, namespace, where))
        yield warn(
            check,
            f"{denial} refuses to detach {_listed(where)}: they would be fenced in place, and stay in service",
            ask,
            exemption=manifest,
        )
    if tally.untried:
        yield warn(check, "; ".join(said), "see the reason, and try again")
    elif said:
        yield Finding(check, Level.OK, "; ".join(said), each=tuple(_of_each(tally)))


def _of_each(tally: _Tally) -> Iterator[str]:
    yield from (f"{words}: dry run passed" for words in tally.works)
    yield from (f"{words}: nothing to do: {reason}" for words, reason in tally.already.items())
    yield from (f"{words}: by design not: {reason}" for words, reason in tally.not_for.items())


def _wanted(stage: Stage, action: Action[Any], namespace: str, where: Sequence[str]) -> Wanted:
    own = tuple(dict.fromkeys(words.split(" ")[0] for words in where))
    kinds, verbs = _WRITES.get(action.name, ((*own, *(f"{kind}/scale" for kind in own)), (Verb.PATCH,)))
    return Wanted(
        user=stage.user, namespace=namespace, kinds=kinds, operations=tuple(_OPERATIONS[verb] for verb in verbs)
    )


# --- what runs there -----------------------------------------------------------------------
def _candidates(stage: Stage, namespace: str) -> tuple[tuple[Candidate, ...], tuple[str, ...]]:
    """A pod of each controller, each workload of its own, each of their nodes; and what was left out, with why."""
    found: list[Candidate] = []
    left_out: list[str] = []
    pods = [pod for pod in stage.cluster.list(POD, namespace) if _runs(pod)]
    first = {_owner(pod): pod for pod in reversed(pods)}
    _take(stage, POD, reversed(first.values()), found, left_out)
    for resource in WORKLOADS:
        objects = [obj for obj in stage.cluster.list(resource, namespace) if controller_of(obj) is None]
        _take(stage, resource, objects, found, left_out)
    names = dict.fromkeys(str(pod["spec"]["nodeName"]) for pod in pods if pod["spec"].get("nodeName"))
    nodes = [node for name in names if (node := stage.cluster.find(NODE, "", name)) is not None]
    _take(stage, NODE, nodes, found, left_out)
    return tuple(found), tuple(left_out)


def _take(
    stage: Stage, resource: Resource, objects: Iterable[Json], found: list[Candidate], left_out: list[str]
) -> None:
    fit = []
    for bare in objects:
        obj = {**bare, "apiVersion": resource.api_version, "kind": resource.kind}
        refusal = guard.protected(obj, stage.policy)
        if refusal is None:
            fit.append(Candidate(ObjectRef.of(stage.cluster_id, obj), obj, _words(obj)))
        else:
            left_out.append(f"{_words(obj)}: {refusal.reason}")
    found += fit[:MOST]
    if len(fit) > MOST:
        left_out.append(f"{len(fit) - MOST} more {resource.plural} than the {MOST} that were tried")


def _runs(pod: Json) -> bool:
    return not is_finished(pod) and not pod["metadata"].get("deletionTimestamp")


def _owner(pod: Json) -> str:
    return str((controller_of(pod) or pod["metadata"])["uid"])


def _words(obj: Json) -> str:
    name = printable(obj["metadata"]["name"])
    owner = controller_of(obj) if obj["kind"] == POD.kind else None
    return f"{obj['kind']} {name}" + (f" of {printable(owner['kind'])} {printable(owner['name'])}" if owner else "")


def _listed(words: Sequence[str], between: str = ", ", most: int = 6) -> str:
    shown = between.join(words[:most])
    return shown if len(words) <= most else f"{shown} and {len(words) - most} more"
