"""From the words of a person to the objects that a run acts on."""

from __future__ import annotations

from collections.abc import Sequence

from ringfence.errors import NotFound, TargetError
from ringfence.model.catalogue import Scope
from ringfence.model.objects import ObjectRef
from ringfence.model.playbook import Playbook, TargetKind
from ringfence.model.run import Group
from ringfence.platform.kubernetes import targets as named
from ringfence.platform.kubernetes.owners import controller_of
from ringfence.platform.kubernetes.resources import NODE, POD, resource_of
from ringfence.platform.kubernetes.targets import Targets
from ringfence.playbooks import find, load
from ringfence.response.context import Context
from ringfence.response.orders import Found
from ringfence.store import targets as rows


def seek(
    context: Context,
    specs: Sequence[str],
    *,
    namespace: str,
    image: str,
    siblings: bool,
    playbook: str,
) -> tuple[tuple[Found, ...], tuple[str, ...]]:
    """The objects, each once, and words about names that do not lead where they seem to.

    A bare name is a pod's, as for kubectl. A pod that is gone stands for the one that took its place, when there is
    just one. ``playbook`` (a name or a file) says which kinds it takes, and whether it acts on workloads and nodes as
    well. Raises TargetError, PlaybookError, PlatformError.
    """
    group = Group(names=tuple(specs), namespace=namespace, image=image, siblings=siblings)
    return meant(context, group, load(*find(playbook)))


def meant(context: Context, group: Group, plan: Playbook) -> tuple[tuple[Found, ...], tuple[str, ...]]:
    """``seek`` for the words of a command that were kept, and a playbook that is loaded. Raises as it does."""
    specs, namespace, image = group.names, group.namespace, group.image
    scopes = frozenset(step.kind.scope for step in plan.steps)
    found: dict[str, Found] = {}
    words: list[str] = []
    for spec in specs:
        resolved, said = _resolve(context, spec if "/" in spec else f"pod/{spec}", namespace)
        _takes(plan, resolved.named.kind if resolved.named is not None else TargetKind.POD, spec)
        words += said
        if resolved.workload is not None and Scope.EACH_WORKLOAD in scopes:
            _add(found, _object(context, resolved.workload), "")
        how = "" if resolved.named is not None and resolved.named.kind == POD.kind else f"a pod of {resolved.spec}"
        _add_pods(found, resolved, how)
    if image:
        _takes(plan, TargetKind.IMAGE, "--image")
        by_image = named.pods_of_image(context.cluster, context.cluster_id, image, namespace or None)
        _add_pods(found, by_image, f"runs image {by_image.spec}")
    if group.siblings:
        for one in [one for one in found.values() if one.ref.kind == POD.kind]:
            others = named.siblings(context.cluster, context.cluster_id, one.obj)
            _add_pods(found, others, f"a sibling of {one.ref.name}")
            words += [f"siblings were looked for in {others.narrow}"] if others.narrow else []
    if not found:
        raise TargetError(
            f"{', '.join(specs)} has no pod that runs",
            why="there is nothing to cut and nothing to seal",
            next_step=f"kubectl get pods -n {namespace}",
        )
    if Scope.EACH_NODE in scopes:
        for name in dict.fromkeys(one.obj["spec"].get("nodeName") for one in list(found.values()) if _is_pod(one)):
            if name:
                ref = ObjectRef(cluster=context.cluster_id, api_version="v1", kind=NODE.kind, name=str(name))
                _add(found, _object(context, ref), "runs a pod of the incident")
    return tuple(found.values()), tuple(words)


def _takes(playbook: Playbook, kind: str, named: str) -> None:
    if kind not in playbook.targets:
        raise TargetError(
            f"the playbook {playbook.name} is not for {named}",
            why=f"it takes {', '.join(playbook.targets)}",
            next_step="name one of these, or choose another playbook: ringfence actions list",
        )


def _resolve(context: Context, spec: str, namespace: str) -> tuple[Targets, list[str]]:
    resolved = named.resolve(
        context.cluster, context.cluster_id, spec, namespace, controller=_recorded(context, spec, namespace)
    )
    if not resolved.became:
        return resolved, []
    heirs = ", ".join(resolved.became)
    if len(resolved.became) > 1:
        each = " ".join(f"pod/{name}" for name in resolved.became)
        raise TargetError(
            f"{spec} is gone, and {len(resolved.became)} pods may have taken its place",
            why=f"its controller runs {heirs}",
            next_step=f"name one, or all of them: ringfence contain {each}",
        )
    return resolved, [f"{spec} is gone; its controller runs {heirs} in its place: that one is meant"]


def _recorded(context: Context, spec: str, namespace: str) -> ObjectRef | None:
    """Who controlled the pod of that name, as an incident found it."""
    resource, name = named.kind_of(spec)
    if resource is not POD:
        return None
    with context.store.read() as session:
        known = rows.named(session, context.cluster_id, POD.kind, namespace, name)
        found = rows.as_found(session, known[0][0], known[0][1].uid) if known else None
    reference = controller_of(found) if found is not None else None
    if reference is None:
        return None
    return ObjectRef(
        cluster=context.cluster_id,
        api_version=str(reference["apiVersion"]),
        kind=str(reference["kind"]),
        namespace=namespace,
        name=str(reference["name"]),
        uid=str(reference["uid"]),
    )


def _object(context: Context, ref: ObjectRef) -> Found:
    resource = resource_of(ref)
    try:
        obj = context.cluster.get(resource, ref.namespace, ref.name)
    except NotFound as error:
        raise TargetError(f"{ref} is gone", next_step="look again, then name what is there") from error
    full = {**obj, "apiVersion": ref.api_version, "kind": ref.kind}
    return Found(ObjectRef.of(context.cluster_id, full), full)


def _add_pods(found: dict[str, Found], resolved: Targets, how: str) -> None:
    for pod in resolved.pods:
        _add(found, Found(pod.ref, {**pod.obj, "kind": POD.kind}), how)


def _add(found: dict[str, Found], one: Found, how: str) -> None:
    if one.ref.uid not in found:
        found[one.ref.uid] = Found(one.ref, one.obj, one.how or how)


def _is_pod(one: Found) -> bool:
    return one.ref.kind == POD.kind
