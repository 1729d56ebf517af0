"""``guard.fenced``: an admission policy that refuses beforehand what would take the fence off.

Refused are DELETE and eviction of the fenced pods, a change of their labels, and DELETE or a new spec of their
deny-all. The refusal names the incident and whom to call. Let through are the kubelets (``system:nodes``), the garbage
collectors and the namespace controller, and the principals that this store knows as responders.
``failurePolicy: Ignore``: a guard that cannot be evaluated stops nobody.

What it cannot do: admission sees no read, no deletion of the node, and not the deletion of a policy such as this one.
Whoever drains a node hangs on the fenced pod, and a controller that wants to end a pod fenced in place tries for as
long as the guard stands.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime

from ringfence.actions.base import Action, inverse
from ringfence.actions.fence import FENCE_KEY
from ringfence.actions.perform import in_place
from ringfence.actions.workload import tried
from ringfence.model.base import Json
from ringfence.model.journal import ChangeRecord
from ringfence.model.objects import ObjectRef
from ringfence.model.outcome import Already, Refused
from ringfence.model.permission import Permission
from ringfence.model.plan import Change, Impact, Inverse, Plan, Verb
from ringfence.model.proof import Level, Proof
from ringfence.platform.kubernetes.resources import (
    VALIDATING_ADMISSION_POLICY,
    VALIDATING_ADMISSION_POLICY_BINDING,
    Resource,
    resource_of,
)

_MACHINERY = (
    "system:kube-controller-manager",
    "system:serviceaccount:kube-system:generic-garbage-collector",
    "system:serviceaccount:kube-system:namespace-controller",
    "system:serviceaccount:kube-system:pod-garbage-collector",
)
_VERBS = frozenset({"get", "create", "patch", "delete", "list", "watch"})
_PER_WORD = 200


@dataclass(frozen=True)
class Wanted:
    """What is guarded: (namespace, name) of each fenced pod. ``responders`` are user names, ``call`` whom to call."""

    incident: str
    pods: tuple[tuple[str, str], ...]
    responders: tuple[str, ...]
    call: tuple[str, ...] = ()


class FencedGuard(Action[Wanted]):
    """Guard an incident's fenced pods. Reversible; ``ringfence watch`` makes it and takes it down, where configured."""

    name = "guard.fenced"
    kinds = frozenset({"Pod"})
    destructive = False
    permissions = (
        Permission(
            "validatingadmissionpolicies.admissionregistration.k8s.io",
            _VERBS,
            "the guard that refuses to delete, evict or relabel fenced pods (watch.guard)",
            everywhere=True,
        ),
        Permission(
            "validatingadmissionpolicybindings.admissionregistration.k8s.io",
            _VERBS,
            "the binding by which that guard holds (watch.guard)",
            everywhere=True,
        ),
    )

    @property
    def object_name(self) -> str:
        return f"ringfence-{self.settings.fence}"

    def look(self, cluster_id: str, target: ObjectRef, pool: ThreadPoolExecutor) -> Wanted:  # noqa: ARG002
        """The pod alone, with nobody let through: whoever guards an incident says what is wanted himself."""
        return Wanted("", ((target.namespace, target.name),), ())

    def plan(self, target: ObjectRef, around: Wanted) -> Plan | Already | Refused:
        """Policy, then binding; a policy that guards something else by now gets its new spec. Already: it stands."""
        changes: list[Change] = []
        for resource, body in (
            (VALIDATING_ADMISSION_POLICY, self._policy(around)),
            (VALIDATING_ADMISSION_POLICY_BINDING, self._binding()),
        ):
            live = self.cluster.find(resource, "", self.object_name)
            change = self._change(target.cluster, resource, body, live)
            if change is None:
                continue
            refused = tried(self.cluster, change)
            if refused is not None:
                return refused
            changes.append(change)
        if not changes:
            return Already(reason="the guard stands")
        return Plan(
            action=self.name,
            target=target,
            changes=tuple(changes),
            impact=Impact(pods=0, replacement="nobody: nothing stops by it", replacement_expected=False),
            caveats=(
                "a drain of the node hangs on the fenced pods, and a controller that wants to end one tries on",
                "who may write admission policies can take the guard away; that is noticed",
            ),
            rationale="what is refused needs no putting back",
        )

    def verify(self, target: ObjectRef, records: Sequence[ChangeRecord]) -> Proof:  # noqa: ARG002
        policy = self.cluster.find(VALIDATING_ADMISSION_POLICY, "", self.object_name)
        binding = self.cluster.find(VALIDATING_ADMISSION_POLICY_BINDING, "", self.object_name)
        stands = policy is not None and binding is not None
        return Proof(
            claim="deleting, evicting and relabelling the fenced pods is refused" if stands else "no guard stands",
            level=Level.COMPUTED if stands else Level.REQUESTED,
            by="the admission policy and its binding, read back from the API server",
            at=datetime.now(UTC),
            why_not_higher="it was tried on nobody: we are let through ourselves",
        )

    def undo(self, record: ChangeRecord) -> Change | Already | Refused:
        """The object is deleted, whichever of our changes it last had."""
        ref = record.change.ref
        live = self.cluster.find(resource_of(ref), "", ref.name)
        if live is None:
            return Already(reason=f"{ref.kind} {ref.name} is gone")
        uid = str(live["metadata"]["uid"])
        if record.change.verb is not Verb.CREATE or uid != record.result_uid:
            return Already(reason=f"{ref.kind} {ref.name} goes with the change that made it")
        return inverse(record)

    def _change(self, cluster: str, resource: Resource, body: Json, live: Json | None) -> Change | None:
        ref = ObjectRef(
            cluster=cluster,
            api_version=resource.api_version,
            kind=resource.kind,
            name=self.object_name,
            uid=live["metadata"]["uid"] if live is not None else "",
        )
        create = Change(
            id=resource.kind.removeprefix("ValidatingAdmission").lower(),
            ref=ref.model_copy(update={"uid": ""}),
            verb=Verb.CREATE,
            body=body,
            inverse=Inverse(verb=Verb.DELETE),
            effect=f"{resource.kind} {self.object_name} guards the fenced pods and their deny-all",
        )
        if live is None:
            return create
        # A policy that guards fewer pods now is within the old one: only the same is the same.
        if in_place(create, live) and _words(body) == _words(live):
            return None
        return create.model_copy(
            update={
                "ref": ref,
                "verb": Verb.PATCH,
                "prior": live,
                "inverse": None,
                "body": [
                    {"op": "test", "path": "/metadata/uid", "value": ref.uid},
                    {"op": "replace", "path": "/spec", "value": body["spec"]},
                ],
                "effect": f"{resource.kind} {self.object_name} guards what is fenced now",
            }
        )

    def _policy(self, wanted: Wanted) -> Json:
        namespaces = sorted({namespace for namespace, _ in wanted.pods})
        pods = json.dumps([f"{namespace}/{name}" for namespace, name in sorted(wanted.pods)])
        fence, key = json.dumps(self.settings.fence), json.dumps(FENCE_KEY)
        policy = json.dumps(self.object_name)
        exempt = json.dumps([*_MACHINERY, *sorted(wanted.responders)])
        # Members that are empty are left out of the request: asking for one without has() is an error, and so a pass.
        fenced = (
            f"request.resource.resource == 'networkpolicies' ? request.name == {policy} : "
            "has(request.subResource) && request.subResource == 'eviction' ? "
            f"(request.namespace + '/' + request.name) in {pods} : "
            f"(oldObject != null && has(oldObject.metadata.labels) && {key} in oldObject.metadata.labels && "
            f"oldObject.metadata.labels[{key}] == {fence})"
        )
        allowed = (
            "request.operation == 'UPDATE' && (request.resource.resource == 'networkpolicies' ? "
            "object.spec == oldObject.spec : "
            "(has(object.metadata.labels) ? object.metadata.labels : {}) == "
            "(has(oldObject.metadata.labels) ? oldObject.metadata.labels : {}))"
        )
        rules = [
            ("", ["DELETE", "UPDATE"], "pods"),
            ("", ["CREATE"], "pods/eviction"),
            ("networking.k8s.io", ["DELETE", "UPDATE"], "networkpolicies"),
        ]
        return {
            "apiVersion": VALIDATING_ADMISSION_POLICY.api_version,
            "kind": VALIDATING_ADMISSION_POLICY.kind,
            "metadata": {"name": self.object_name, "labels": {"app.kubernetes.io/managed-by": "ringfence"}},
            "spec": {
                "failurePolicy": "Ignore",
                # Every default is spelled out: the policy is compared as a whole when it is read back.
                "matchConstraints": {
                    "matchPolicy": "Equivalent",
                    "objectSelector": {},
                    "namespaceSelector": {
                        "matchExpressions": [
                            {"key": "kubernetes.io/metadata.name", "operator": "In", "values": namespaces}
                        ]
                    },
                    "resourceRules": [
                        {
                            "apiGroups": [group],
                            "apiVersions": ["v1"],
                            "operations": operations,
                            "resources": [resource],
                            "scope": "*",
                        }
                        for group, operations, resource in rules
                    ],
                },
                "matchConditions": [
                    {
                        "name": "not-a-node",
                        "expression": "!has(request.userInfo.groups) || !('system:nodes' in request.userInfo.groups)",
                    },
                    {"name": "nobody-who-may", "expression": f"!(request.userInfo.username in {exempt})"},
                    {"name": "is-fenced", "expression": fenced},
                ],
                "validations": [{"expression": allowed, "message": _message(wanted), "reason": "Forbidden"}],
            },
        }

    def _binding(self) -> Json:
        return {
            "apiVersion": VALIDATING_ADMISSION_POLICY_BINDING.api_version,
            "kind": VALIDATING_ADMISSION_POLICY_BINDING.kind,
            "metadata": {"name": self.object_name, "labels": {"app.kubernetes.io/managed-by": "ringfence"}},
            "spec": {"policyName": self.object_name, "validationActions": ["Deny"]},
        }


def _words(obj: Json) -> tuple[object, ...]:
    spec = obj["spec"]
    validations = [(one["expression"], one["message"]) for one in spec.get("validations") or ()]
    conditions = [(one["name"], one["expression"]) for one in spec.get("matchConditions") or ()]
    selector = (spec.get("matchConstraints") or {}).get("namespaceSelector")
    return (validations, conditions, selector, spec.get("policyName"), spec.get("validationActions"))


def _message(wanted: Wanted) -> str:
    call = "; ".join(words.replace("\n", " ")[:_PER_WORD] for words in wanted.call)
    whom = f" Call {call}." if call else ""
    return f"Ringfence holds this for incident {wanted.incident}: it is evidence, and fenced off.{whom}"
