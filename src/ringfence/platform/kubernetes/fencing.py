"""The edits that cut one pod off with NetworkPolicies, and their inverses. Pure: objects in, requests out.

The parts of a cut, in the order in which they are safe to send:

1. :func:`deny_all` selects pods by the fence label and allows nothing. No pod has the label yet.
2. :func:`exclusion` makes each policy that would still open the pod pass over whatever has the fence label. Send it
   only when every pod that already has the label (:func:`carriers`) is under a deny-all of its own: a pod that is not
   would lose the isolation that the policy gave it.
3. :func:`relabel` puts the label on, and for a detach takes others off (:func:`detached_labels`). This one patch cuts.

They are taken back the other way round, and an exclusion (:func:`without_exclusion`) only when no pod of the namespace
has the fence label any more: it serves every fenced pod there.

Patches are RFC 6902 operations whose ``test`` operations are the preconditions: the server refuses the whole patch when
the object is not the one, or not in the state, that it was made for.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from ringfence.platform.kubernetes import policy_rules, selectors
from ringfence.platform.kubernetes.policies import evaluate_labels, selecting
from ringfence.platform.kubernetes.policy_rules import PolicyError
from ringfence.platform.kubernetes.selectors import TRACKING_LABELS, LabelSelector, SelectorError, labels_of, printable

JsonPatch: TypeAlias = tuple[dict[str, Any], ...]


def deny_all(name: str, namespace: str, *, key: str, value: str, labels: Mapping[str, str]) -> dict[str, Any]:
    """The quarantine NetworkPolicy: isolates pods labelled ``key: value`` both ways and allows nothing.

    ``policyTypes`` is spelled out: without it a policy with no egress rules leaves egress open. ``labels`` are the
    policy's own; none of TRACKING_LABELS may be among them, or Argo CD would prune it (PolicyError).
    """
    if tracking := TRACKING_LABELS & labels.keys():
        raise PolicyError(
            "the quarantine policy would be claimed by a GitOps controller",
            why=f"its labels have {', '.join(sorted(tracking))}",
            next_step="give it labels of its own",
        )
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": namespace, "labels": dict(labels)},
        "spec": {"podSelector": {"matchLabels": {key: value}}, "policyTypes": ["Ingress", "Egress"]},
    }


def exclusion(policy: Mapping[str, Any], key: str) -> JsonPatch:
    """The patch after which ``policy`` selects no pod that has label ``key``, and every other pod as before.

    Empty when it is excluded already. Guarded by the policy's uid, resourceVersion and present ``podSelector``.
    Raises PolicyError for a policy that cannot be read, that was not read from the server (no uid or
    resourceVersion), or that allows nothing: passing over the pod would then take isolation away and close nothing.
    """
    rules = policy_rules.parse(policy)
    if not rules.openings:
        raise PolicyError(
            f"{_named(policy)} is not to be excluded",
            why="it isolates the pods that it selects and allows them nothing",
            next_step="leave it as it is",
        )
    prior = policy["spec"].get("podSelector")
    if _excludes(prior, key):
        return ()
    return (*_guards(policy), *_replace_selector(policy, _excluding(prior, key)))


def without_exclusion(
    policy: Mapping[str, Any], key: str, *, prior: Mapping[str, Any] | None, pods: Iterable[Mapping[str, Any]]
) -> JsonPatch:
    """The inverse of :func:`exclusion`: the patch that puts ``podSelector`` back to exactly ``prior``.

    ``policy`` is the live object, ``prior`` its ``podSelector`` as saved before the exclusion (None: it had none),
    ``pods`` the live pods of its namespace. Empty when the selector is the prior one already. Raises PolicyError when
    the selector is neither the prior one nor the one that we made (somebody edited it since, and their edit is not
    ours to overwrite), and when a pod still has label ``key`` (the policy would open it again).
    """
    current = (policy.get("spec") or {}).get("podSelector")
    if _same(current, prior):
        return ()
    if not _same(current, _excluding(prior, key)):
        raise PolicyError(
            f"{_named(policy)} cannot be put back",
            why="its podSelector was changed by somebody since the exclusion",
            next_step=f"take the {printable(key)} expression out by hand, or keep it: it only passes over fenced pods",
        )
    if fenced := carriers(pods, namespace=policy["metadata"]["namespace"], key=key):
        raise PolicyError(
            f"{_named(policy)} is not to be put back yet",
            why=f"it would open fenced pods again: {', '.join(printable(p['metadata']['name']) for p in fenced)}",
            next_step="release these pods first",
        )
    return (*_guards(policy), *_replace_selector(policy, prior))


def carriers(pods: Iterable[Mapping[str, Any]], *, namespace: str, key: str) -> tuple[Mapping[str, Any], ...]:
    """The pods of ``namespace`` that have label ``key``, whatever its value."""
    return tuple(pod for pod in pods if pod["metadata"]["namespace"] == namespace and key in labels_of(pod))


def relabel(pod: Mapping[str, Any], labels: Mapping[str, str]) -> JsonPatch:
    """The patch that gives ``pod`` exactly ``labels``; empty when it has them.

    Guarded by uid and by the labels that it was made for. Not by resourceVersion, but for a pod without labels (absence
    cannot be tested): the kubelet moves it at every status change, and a crashing pod would escape the patch.
    """
    meta = pod["metadata"]
    present = meta.get("labels")
    if dict(present or {}) == dict(labels):
        return ()
    path = "/metadata/labels"
    guard = (
        {"op": "test", "path": "/metadata/resourceVersion", "value": meta["resourceVersion"]}
        if present is None
        else {"op": "test", "path": path, "value": dict(present)}
    )
    uid = {"op": "test", "path": "/metadata/uid", "value": meta["uid"]}
    return (uid, guard, {"op": "add" if present is None else "replace", "path": path, "value": dict(labels)})


@dataclass(frozen=True, slots=True)
class RemovedLabel:
    """A label that is taken off, and the objects whose selectors needed it (``Service cards``; escaped for display)."""

    key: str
    value: str
    needed_by: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LabelChange:
    """A pod's labels after the change, and what will still select it then.

    ``controllers`` would adopt it (again) and ``services`` keep sending it traffic: none must be left for a detach.
    ``budgets`` go on counting it, which is a caveat. ``to_exclude`` are the policies that would still open it;
    ``newly_selecting`` those that select it only because of the change (NotIn, DoesNotExist, or the fence label
    itself), opening or not. A fence label that was there already has the new value.
    """

    labels: Mapping[str, str]
    removed: tuple[RemovedLabel, ...] = ()
    controllers: tuple[str, ...] = ()
    services: tuple[str, ...] = ()
    budgets: tuple[str, ...] = ()
    to_exclude: tuple[Mapping[str, Any], ...] = ()
    newly_selecting: tuple[Mapping[str, Any], ...] = ()

    @property
    def detaches(self) -> bool:
        """Whether no controller adopts the pod and no Service serves from it any more."""
        return not self.controllers and not self.services


def detached_labels(
    namespace: str,
    labels: Mapping[str, str],
    *,
    fence_key: str,
    fence_value: str,
    controllers: Iterable[Mapping[str, Any]] = (),
    services: Iterable[Mapping[str, Any]] = (),
    budgets: Iterable[Mapping[str, Any]] = (),
    policies: Iterable[Mapping[str, Any]] = (),
    keep: Collection[str] = (),
    tracking: Collection[str] = TRACKING_LABELS,
) -> LabelChange:
    """The labels that take a pod of ``namespace`` out of everything that selects it, and set the fence label.

    Arguments are raw objects; those of other namespaces are passed over. ``controllers`` must be **every** ReplicaSet,
    StatefulSet, DaemonSet, Job and ReplicationController of the namespace, not only the owner: each of them adopts an
    orphan that its selector matches (a ReplicationController needs its ``kind``: its selector is a plain map).
    ``keep`` are labels that must stay because admission asks for them.

    Not all labels go. Some are asked for by admission (``team``), others are read by people, by monitoring and by the
    cost report, and a pod stripped bare tells less as evidence. So a label goes when a selector that matches the pod
    cannot match without it (matchLabels, In, Exists) and belongs to a controller, a Service, a PodDisruptionBudget (a
    broken orphan would use up what the healthy pods may be disrupted by) or a policy that allows something. All such
    labels of a selector go, not the least number: what is left then says the same for any selector that shares a part
    of it, and the reader of the plan need not follow a puzzle. Also gone are the ``tracking`` labels: a pod without an
    owner that has one looks to Argo CD like an object that left Git, and would be pruned, with the evidence in it.

    Removal cannot help against a selector that matches *without* a label: the empty one, NotIn, DoesNotExist. Policies
    of this kind are in ``to_exclude``; controllers, Services and budgets are named, and then detaching is no option.
    Policies that isolate without allowing anything may go on selecting the pod: they only help.

    Raises PolicyError or SelectorError for an object that cannot be read.
    """
    policies = tuple(policies)
    adopting = _named_selectors(controllers, namespace, "controller")
    serving = _named_selectors(services, namespace, "Service")
    counting = _named_selectors(budgets, namespace, "PodDisruptionBudget")
    opening = [
        (f"NetworkPolicy {printable(rules.name)}", rules.pod_selector)
        for rules in map(policy_rules.parse, _of_namespace(policies, namespace))
        if rules.openings
    ]
    fenced = {**labels, fence_key: fence_value}
    stay = {fence_key, *keep}
    reasons: dict[str, list[str]] = {key: ["GitOps tracking"] for key in fenced.keys() & set(tracking) - stay}
    after = {key: value for key, value in fenced.items() if key not in reasons}
    # A removal can make a NotIn or DoesNotExist selector match that asks for a further label: repeat until none does.
    while needed := _needed(after, [*adopting, *serving, *counting, *opening], stay):
        reasons.update(needed)
        after = {key: value for key, value in after.items() if key not in needed}
    return _label_change(
        namespace,
        labels,
        after,
        policies,
        removed=tuple(RemovedLabel(key, labels[key], tuple(reasons[key])) for key in sorted(reasons)),
        controllers=_selecting(adopting, after),
        services=_selecting(serving, after),
        budgets=_selecting(counting, after),
    )


def fenced_labels(
    namespace: str,
    labels: Mapping[str, str],
    *,
    fence_key: str,
    fence_value: str,
    policies: Iterable[Mapping[str, Any]],
) -> LabelChange:
    """The labels of a pod that is fenced in place: one more, none less. What selected it for serving still does."""
    return _label_change(namespace, labels, {**labels, fence_key: fence_value}, tuple(policies))


def _label_change(
    namespace: str,
    before: Mapping[str, str],
    after: Mapping[str, str],
    policies: tuple[Mapping[str, Any], ...],
    *,
    removed: tuple[RemovedLabel, ...] = (),
    controllers: tuple[str, ...] = (),
    services: tuple[str, ...] = (),
    budgets: tuple[str, ...] = (),
) -> LabelChange:
    selecting_after = selecting(policies, namespace=namespace, labels=after)
    selected_before = {id(policy) for policy in selecting(policies, namespace=namespace, labels=before)}
    return LabelChange(
        labels=after,
        removed=removed,
        controllers=controllers,
        services=services,
        budgets=budgets,
        to_exclude=tuple(p for p in selecting_after if evaluate_labels(namespace, after, (p,)).openings),
        newly_selecting=tuple(p for p in selecting_after if id(p) not in selected_before),
    )


def _needed(
    labels: Mapping[str, str], selecting_objects: Iterable[tuple[str, LabelSelector]], stay: Collection[str]
) -> dict[str, list[str]]:
    """Label keys that selectors matching ``labels`` cannot do without, each with the names of those selectors."""
    needed: dict[str, list[str]] = {}
    for name, selector in selecting_objects:
        if selector.matches(labels):
            for key in selector.required_keys.difference(stay):
                needed.setdefault(key, []).append(name)
    return needed


def _selecting(named: Iterable[tuple[str, LabelSelector]], labels: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(name for name, selector in named if selector.matches(labels))


def _of_namespace(objects: Iterable[Mapping[str, Any]], namespace: str) -> list[Mapping[str, Any]]:
    return [obj for obj in objects if obj["metadata"]["namespace"] == namespace]


def _named_selectors(
    objects: Iterable[Mapping[str, Any]], namespace: str, kind: str
) -> list[tuple[str, LabelSelector]]:
    """Name and selector of each object that selects anything. Items of a list carry no kind: ``kind`` stands in."""
    named = []
    for obj in _of_namespace(objects, namespace):
        actual = str(obj.get("kind") or kind)
        raw = (obj.get("spec") or {}).get("selector")
        by_map = actual in ("Service", "ReplicationController")
        if raw is None or (by_map and not raw):
            continue
        name = f"{printable(actual)} {printable(obj['metadata']['name'])}"
        try:
            named.append((name, selectors.parse_map(raw) if by_map else selectors.parse(raw)))
        except SelectorError as problem:
            raise SelectorError(f"{name} cannot be read", why=problem.why, next_step=problem.next_step) from problem
    return named


def _named(policy: Mapping[str, Any]) -> str:
    return "NetworkPolicy " + "/".join(map(printable, policy_rules.key_of(policy)))


def _excluding(selector: Mapping[str, Any] | None, key: str) -> dict[str, Any]:
    present = selector or {}
    expressions = [*(present.get("matchExpressions") or ()), {"key": key, "operator": "DoesNotExist"}]
    return {**present, "matchExpressions": expressions}


def _excludes(selector: Mapping[str, Any] | None, key: str) -> bool:
    requirement = selectors.Requirement(key, selectors.Operator.DOES_NOT_EXIST)
    return requirement in selectors.parse(selector or {}).requirements


def _same(left: Mapping[str, Any] | None, right: Mapping[str, Any] | None) -> bool:
    """Equal but for members that are empty, which the server may write or leave out."""
    return {k: v for k, v in (left or {}).items() if v} == {k: v for k, v in (right or {}).items() if v}


def _guards(policy: Mapping[str, Any]) -> JsonPatch:
    meta = policy["metadata"]
    if not (meta.get("uid") and meta.get("resourceVersion")):
        raise PolicyError(
            f"{_named(policy)} cannot be patched safely",
            why="it has no uid or no resourceVersion",
            next_step="read it from the server first",
        )
    return (
        {"op": "test", "path": "/metadata/uid", "value": meta["uid"]},
        {"op": "test", "path": "/metadata/resourceVersion", "value": meta["resourceVersion"]},
    )


def _replace_selector(policy: Mapping[str, Any], selector: Mapping[str, Any] | None) -> JsonPatch:
    """Operations that set ``podSelector`` (None: take it away), with a test of what is there if anything is.

    Absence cannot be tested in RFC 6902; the resourceVersion covers it.
    """
    path = "/spec/podSelector"
    if "podSelector" not in policy["spec"]:
        return ({"op": "add", "path": path, "value": dict(selector or {})},)
    test = {"op": "test", "path": path, "value": policy["spec"]["podSelector"]}
    if selector is None:
        return (test, {"op": "remove", "path": path})
    return (test, {"op": "replace", "path": path, "value": dict(selector)})
