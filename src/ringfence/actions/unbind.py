"""``identity.unbind``: the bindings that name a pod's service account give it no rights any more.

The account's subject is taken out of each RoleBinding and ClusterRoleBinding, in every namespace; a binding that has no
other subject is deleted. Tokens of the account go on being accepted, and may do what every account may. Every other pod
of the account loses the same rights: that is refused, unless it is taken on.

What it does not cover: rights by group (``system:authenticated``, ``system:serviceaccounts``), authorisers beside RBAC,
and whoever puts the binding back, as a GitOps tool would. Undo puts each binding back as it was; the API server allows
that only to who may ``bind`` the role or has all of its rights, and so it is with taking out one of several subjects.
Where it refuses, the binding is handed out as a manifest.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar

from ringfence.actions.account import (
    READS,
    Canary,
    Identity,
    by_group,
    look_at,
    no_pod_stops,
    not_shown,
    shared_by,
    shown,
)
from ringfence.actions.base import Action
from ringfence.actions.perform import content, dry_run, same
from ringfence.actions.workload import put_back, tried
from ringfence.errors import Denied, Invalid
from ringfence.model.base import Json
from ringfence.model.journal import ChangeRecord
from ringfence.model.objects import ObjectRef
from ringfence.model.outcome import Already, Refused
from ringfence.model.permission import Permission
from ringfence.model.plan import Change, Inverse, Plan, Verb
from ringfence.model.proof import Proof
from ringfence.platform.kubernetes.pods import service_account
from ringfence.platform.kubernetes.rbac import names_account
from ringfence.platform.kubernetes.resources import CLUSTER_ROLE_BINDING, POD, resource_of
from ringfence.platform.kubernetes.rights import read_bindings
from ringfence.platform.kubernetes.selectors import printable

_RBAC = "rbac.authorization.k8s.io"
_WRITES = frozenset({"get", "create", "patch", "delete"})
_SERVERS_OWN = ("uid", "resourceVersion", "generation", "creationTimestamp", "managedFields", "selfLink")
_BOOTSTRAP = "rbac.authorization.kubernetes.io/autoupdate"


class Unbind(Action[Identity]):
    """Take an account's rights. ``canary`` tries a read, where there is one."""

    name = "identity.unbind"
    kinds = frozenset({"Pod"})
    destructive = False
    permissions = (
        Permission(
            f"rolebindings.{_RBAC}", _WRITES, "to take the account out of the bindings and put it back", everywhere=True
        ),
        Permission(
            f"clusterrolebindings.{_RBAC}",
            _WRITES,
            "to take the account out of the bindings and put it back",
            everywhere=True,
        ),
        *READS,
    )
    binding_rights: ClassVar[tuple[Permission, ...]] = tuple(
        Permission(
            f"{plural}.{_RBAC}",
            frozenset({"bind"}),
            "to put a binding back, and to take one of several subjects out: it is as good as every right there is",
            everywhere=True,
        )
        for plural in ("roles", "clusterroles")
    )
    """Rendered only where the configuration asks for it (``identity.restore_bindings``)."""
    canary: Canary | None = None

    def look(self, cluster_id: str, target: ObjectRef, pool: ThreadPoolExecutor) -> Identity:  # noqa: ARG002
        return look_at(self.cluster, target, pool)

    def plan(self, target: ObjectRef, around: Identity) -> Plan | Already | Refused:
        """One request for each binding. Refused while other pods use the account, unless that is taken on."""
        bindings = _naming(around.namespace, around.account, around.bindings)
        if not bindings:
            left = "; ".join(by_group(around))
            return Already(reason=f"no binding names {around.words}" + (f"; {left}" if left else ""))
        others = around.unfenced(self.settings.fence)
        if others and not self.settings.share_account:
            return Refused(
                reason=f"{len(others)} other pods use {around.words} and would lose its rights: {shared_by(others)}",
                next_step="take that on: ringfence cut-identity INC --bindings; or contain these pods as well",
            )
        changes = [_cut(target.cluster, around, binding) for binding in bindings]
        refusals = [refused for change in changes if (refused := self._tried(change)) is not None]
        if len(refusals) == len(changes):
            return refusals[0]
        return Plan(
            action=self.name,
            target=target,
            changes=tuple(changes),
            impact=no_pod_stops(),
            caveats=tuple(_caveats(around, bindings, others, refusals)),
            rationale=f"{around.words} may: {around.rights.words}",
        )

    def verify(self, target: ObjectRef, records: Sequence[ChangeRecord]) -> Proof:
        """Computed when no binding names the account; proven when a canary's read was refused that was not before."""
        account = _account_of(records) or self._account(target)
        left = _naming(target.namespace, account, read_bindings(self.cluster)) if account else ()
        if left or not account:
            names = ", ".join(_words(binding) for binding in left)
            return not_shown("the requests were sent, and the account has rights", names or "the pod is gone")
        claim = f"no binding names the service account {printable(target.namespace)}/{printable(account)}"
        by = "our evaluation of every binding, read back from the API server"
        return shown(claim, by, self.canary(target) if self.canary else None, "no canary token has tried a read")

    def undo(self, record: ChangeRecord) -> Change | Already | Refused:
        """The binding as it was. Refused, with the manifest, where the API server does not let us."""
        ref, prior = record.change.ref, record.change.prior or {}
        live = self.cluster.find(resource_of(ref), ref.namespace, ref.name)
        if live is not None and same(content(live), content(prior)):
            return Already(reason=f"{ref} is as it was")
        change = _restore(record.change, live)
        if not isinstance(change, Change):
            return change
        try:
            dry_run(self.cluster, change)
        except (Invalid, Denied) as error:
            manifest = json.dumps(manifest_of(prior), sort_keys=True)
            return Refused(
                reason=f"{ref} cannot be put back by us: {error.why}",
                next_step=f"somebody who may bind {_role(prior)} applies it (kubectl apply -f FILE): {manifest}",
            )
        return change

    def _tried(self, change: Change) -> Refused | None:
        refused = tried(self.cluster, change)
        if refused is not None and "not currently held" in refused.reason:
            return refused.model_copy(
                update={"next_step": "identity.restore_bindings in the configuration renders the right to bind"}
            )
        return refused

    def _account(self, target: ObjectRef) -> str:
        live = self.cluster.find(POD, target.namespace, target.name)
        return service_account(live) if live is not None and live["metadata"]["uid"] == target.uid else ""


def manifest_of(binding: Json) -> Json:
    """The binding as somebody can create it: without what the server writes."""
    meta = {name: value for name, value in binding["metadata"].items() if name not in _SERVERS_OWN}
    return {**binding, "metadata": meta}


def _naming(namespace: str, account: str, bindings: Iterable[Json]) -> tuple[Json, ...]:
    """The bindings that have the account itself as a subject, cluster-wide ones first."""
    found = [
        binding
        for binding in bindings
        if not binding["metadata"].get("deletionTimestamp")
        and any(names_account(subject, binding, namespace, account) for subject in binding.get("subjects") or ())
    ]
    return tuple(
        sorted(found, key=lambda one: (one["kind"] != CLUSTER_ROLE_BINDING.kind, one["metadata"].get("namespace", "")))
    )


def _cut(cluster_id: str, around: Identity, binding: Json) -> Change:
    """The request that takes the account out of one binding."""
    subjects = binding["subjects"]
    ref = ObjectRef.of(cluster_id, binding)
    kept = [one for one in subjects if not names_account(one, binding, around.namespace, around.account)]
    change = Change(
        id=f"unbind-{ref.kind}-{ref.namespace}-{ref.name}",
        ref=ref,
        verb=Verb.PATCH if kept else Verb.DELETE,
        body=_replace(ref.uid, subjects, kept) if kept else None,
        prior=binding,
        needed=False,
        effect=f"{_role(binding)} is not given to the account any more"
        + (f"; {len(kept)} other subjects keep it" if kept else ": it was the only subject, so the binding goes"),
    )
    return change.model_copy(
        update={
            "inverse": Inverse(verb=Verb.PATCH, body=_replace(ref.uid, kept, subjects))
            if kept
            else Inverse(verb=Verb.CREATE, body=manifest_of(binding))
        }
    )


def _replace(uid: str, before: Sequence[Json], after: Sequence[Json]) -> list[Json]:
    return [
        {"op": "test", "path": "/metadata/uid", "value": uid},
        {"op": "test", "path": "/subjects", "value": list(before)},
        {"op": "replace", "path": "/subjects", "value": list(after)},
    ]


def _restore(change: Change, live: Json | None) -> Change | Already | Refused:
    """The change that gives the account the role back, and takes nothing back of what others changed meanwhile."""
    prior = change.prior or {}
    made = change.model_copy(
        update={
            "id": f"undo-{change.id}",
            "inverse": None,
            "needed": False,
            "prior": live,
            "effect": f"{_role(prior)} is given to the account again",
        }
    )
    if live is None and change.verb is Verb.PATCH:
        return Already(reason=f"{change.ref} was deleted by somebody else, with the subjects that were left")
    if live is None:
        ref = change.ref.model_copy(update={"uid": ""})
        return made.model_copy(update={"ref": ref, "verb": Verb.CREATE, "body": manifest_of(prior)})
    if live.get("roleRef") != prior.get("roleRef"):
        return Refused(
            reason=f"{change.ref} gives another role by now: {_role(live)}",
            next_step="look at who made it; then put the account's subject back by hand",
        )
    now = live.get("subjects") or []
    left = change.body[-1]["value"] if change.verb is Verb.PATCH else []
    own = [subject for subject in prior.get("subjects") or () if subject not in left and subject not in now]
    if not own:
        return Already(reason=f"{change.ref} gives the account its role")
    after = list(prior.get("subjects") or ()) if left == now else [*now, *own]
    ref = change.ref.model_copy(update={"uid": live["metadata"]["uid"]})
    body = _replace(ref.uid, now, after)
    if not now:  # a member that is empty is left out: it can be added, but not tested
        body = [body[0], {"op": "add", "path": "/subjects", "value": after}]
    return made.model_copy(update={"ref": ref, "verb": Verb.PATCH, "body": body})


def _account_of(records: Sequence[ChangeRecord]) -> str:
    """The account that the changes took out, by the subjects that are gone."""
    for record in records:
        prior, body = record.change.prior or {}, record.change.body or []
        kept = body[-1]["value"] if body else []
        for subject in prior.get("subjects") or ():
            if subject not in kept:
                return str(subject.get("name", "")).rpartition(":")[2]
    return ""


def _caveats(
    around: Identity, bindings: Sequence[Json], others: Sequence[Json], refusals: Sequence[Refused]
) -> Iterable[str]:
    if others:
        yield f"{len(others)} other pods use {around.words} and lose the same rights: {shared_by(others)}"
    yield "the account's tokens are accepted still, and may do what every account may; they die with the pod or account"
    yield "undo puts a binding back where we may bind its role; elsewhere it hands the binding out as a manifest"
    yield from by_group(around)
    for refused in refusals:
        yield f"the server's dry run says no, so one binding will stay: {refused.reason}"
    for binding in bindings:
        yield from (f"{_words(binding)}: {words}" for words in put_back(binding))
        if (binding["metadata"].get("annotations") or {}).get(_BOOTSTRAP) == "true":
            yield f"{_words(binding)} is one of Kubernetes' own: the API server puts its subjects back when it starts"


def _words(binding: Json) -> str:
    meta = binding["metadata"]
    where = f"{printable(meta['namespace'])}/" if meta.get("namespace") else ""
    return f"{binding['kind']} {where}{printable(meta['name'])}"


def _role(binding: Json) -> str:
    role = binding.get("roleRef") or {}
    return f"{printable(str(role.get('kind', '')))} {printable(str(role.get('name', '')))}"
