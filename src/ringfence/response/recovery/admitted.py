"""What admission says to the suspects' pods, by server-side dry runs: a hole that a policy closes.

Nothing is created. The responder asks, who needs the right to create pods: a policy that passes over the responder
passes over it here as well, and then the gate stays shut. A dry run asks about a new pod; what admission would say to a
change of one that runs (a container put into it) it does not tell.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from ringfence.actions.perform import dry_run
from ringfence.errors import Invalid
from ringfence.model.base import Json
from ringfence.model.objects import ObjectRef
from ringfence.model.outcome import Applied, Failed, Outcome, Problem, Refused
from ringfence.model.plan import Change, Verb
from ringfence.model.proof import Level, Proof
from ringfence.platform.kubernetes.pods import image_names
from ringfence.platform.kubernetes.resources import POD
from ringfence.platform.kubernetes.selectors import printable
from ringfence.response.context import Context, now
from ringfence.response.readiness.admission import Denial, System, denials
from ringfence.response.recovery.known import REPLACEMENT
from ringfence.response.recovery.scope import Restored, Scope
from ringfence.response.scene import Scene

_CONTROL = "ringfence.invalid/control"
_SHOW = 5
_GIVEN = ("nodeName", "ephemeralContainers", "priority", "preemptionPolicy")
"""What a pod has from the cluster or got later: a new one may not bring it along."""
_NO_POLICY = (System.QUOTA, System.OTHER)

Answer = tuple[Outcome, Proof | None]


def blocked(context: Context, incident: str, found: Scope) -> Answer:
    """A bare pod of each of the suspects' images is sent; admission has to refuse each, and to let the same pod with
    another image pass: else it refuses something else of it, a quota for example.

    Raises Denied (RBAC), Unanswered.
    """
    wanted = sorted({(ref.namespace, name) for ref, pod in found.suspects for name in image_names(pod)})
    others = sorted({name for one in found.restored for name in image_names(one.template)} - found.images)
    said = []
    for namespace, image in wanted:
        why = _refusal(context, namespace, _bare(image))
        control = others[0] if others else _CONTROL
        if why is None:
            reason = f"a pod with the image {printable(image)} would be admitted in {namespace}"
        elif (also := _refusal(context, namespace, _bare(control))) is not None:
            reason = f"a pod with the image {printable(control)} is refused in {namespace} as well: {also}"
        else:
            said.append(f"{printable(image)}: {why}")
            continue
        return _shut(incident, reason, "refuse the image by a policy")
    if not said:
        return Refused(reason="the incident has no suspect whose image could be tried"), None
    return _proven("admission refuses a pod of each image of the suspects, and admits it with another image", said)


def tightened(scene: Scene, found: Scope) -> Answer:
    """A new pod like each of the suspects is sent, as it was found: admission has to refuse it by a policy that it
    names, and to let pass what is to come. Raises Denied (RBAC), Unanswered.

    What is to come are the templates of the workloads that are restored; where there is none, a bare pod of the
    suspect's image. A template that Argo CD is to bring by an approved revision is not there yet.
    """
    context, incident = scene.context, scene.incident.id
    shapes: dict[str, tuple[ObjectRef, Json]] = {}
    for ref, pod in found.suspects:
        if pod["spec"].get("ephemeralContainers"):
            reason = f"{ref} has a container that was put into it later: no new pod shows what admission says to that"
            return _shut(incident, reason, "look at the policies by hand")
        shape = _like(pod)
        shapes.setdefault(json.dumps([ref.namespace, shape], sort_keys=True), (ref, shape))
    said = []
    for ref, shape in shapes.values():
        why = _refusal(context, ref.namespace, shape)
        if why is None:
            reason = f"a pod like {ref} would be admitted in {ref.namespace}"
            return _shut(incident, reason, "tighten a policy, and have it enforced and not only audited or warned of")
        policies = [denial for denial in denials(why) if denial.system not in _NO_POLICY]
        if not policies:
            what = f"whether a policy refuses a pod like {ref} is not known: something else does"
            next_step = f"see its reason; or: {_accept(incident)}"
            return Failed(problem=Problem(code="not-tried", what=what, why=why, next_step=next_step)), None
        said.append(f"{_named(policies)}, which refuses a pod like {ref}: {why}")
    if not said:
        return Refused(reason="the incident has no suspect that could be tried"), None
    awaited: list[Restored] = []
    for namespace, what, shape, one in _to_come(found):
        also = _refusal(context, namespace, shape)
        if also is None:
            continue
        if one is not None and one.application is not None and scene.run.order.revisions:
            awaited.append(one)
            continue
        reason = f"{what}, which is to come, is refused in {namespace} as well: {also}"
        return _shut(incident, reason, "mend what is to come, so that the policies admit it")
    if not awaited:
        return _proven("admission refuses a new pod like each of the suspects, and admits what is to come", said)
    names = ", ".join(str(one.ref) for one in awaited[:_SHOW])
    return Applied(), Proof(
        claim="admission refuses a new pod like each of the suspects; the approved revision brings what it admits, "
        f"says who approved it: {names} is refused as it is",
        level=Level.REQUESTED,
        by=scene.run.requested_by,
        at=now(),
        why_not_higher="a template that is refused starts no pod: what Argo CD delivers is seen once it is there",
    )


def _to_come(found: Scope) -> list[tuple[str, str, Json, Restored | None]]:
    """Namespace, name and shape of each pod that admission must let pass."""
    if found.restored:
        return [(one.ref.namespace, f"the template of {one.ref}", _like(one.template), one) for one in found.restored]
    bare = {(ref.namespace, name) for ref, pod in found.suspects for name in image_names(pod)}
    return [
        (namespace, f"a bare pod of the image {printable(name)}", _bare(name), None) for namespace, name in sorted(bare)
    ]


def _like(pod: Json) -> Json:
    """A new pod with what somebody asked for in this one."""
    meta = pod["metadata"]
    spec = {name: value for name, value in pod["spec"].items() if name not in _GIVEN}
    kept = {name: meta[name] for name in ("labels", "annotations") if meta.get(name)}
    return {"metadata": kept, "spec": spec}


def _bare(image: str) -> Json:
    spec = {"automountServiceAccountToken": False, "containers": [{"name": "image", "image": image}]}
    return {"metadata": {}, "spec": spec}


def _refusal(context: Context, namespace: str, pod: Mapping[str, Json]) -> str | None:
    """What admission says to such a pod; None when it lets it pass. Raises Denied (RBAC), Unanswered."""
    name = "ringfence-try-out"
    meta = {**pod["metadata"], "name": name, "namespace": namespace}
    body = {"apiVersion": POD.api_version, "kind": POD.kind, "metadata": meta, "spec": pod["spec"]}
    ref = ObjectRef(
        cluster=context.cluster_id, api_version=POD.api_version, kind=POD.kind, namespace=namespace, name=name, uid=""
    )
    try:
        dry_run(context.cluster, Change(id="try-out", ref=ref, verb=Verb.CREATE, body=body, effect="none: a dry run"))
    except Invalid as error:
        return error.why or error.what
    return None


def _named(policies: list[Denial]) -> str:
    return ", ".join(str(one) for one in policies)


def _shut(incident: str, reason: str, what: str) -> Answer:
    return Refused(reason=reason, next_step=f"{what}; or: {_accept(incident)}"), None


def _accept(incident: str) -> str:
    return f"ringfence accept {incident} {REPLACEMENT} --reason …"


def _proven(claim: str, said: list[str]) -> Answer:
    proof = Proof(claim=claim, level=Level.PROVEN, by="; ".join(said[:_SHOW]), at=now(), why_not_higher="")
    return Applied(), proof
