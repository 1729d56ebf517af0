"""``identity.cut``: the pod's Kubernetes tokens write nothing any more; its siblings, of the same account, go on.

A native ValidatingAdmissionPolicy refuses every create, update, delete, exec, attach, port-forward and proxy by a token
that is bound to the pod's uid, wherever it is used from. It is the mildest cut of an identity: no other pod feels it.

What it does not cover: admission sees no reads (get, list, watch), and no objects that configure admission itself, such
as this policy; nor a token that is bound to no pod (in a Secret, or minted for the account alone), nor questions about
oneself. The token goes on being accepted until the pod or the account is gone. Undo deletes the policy.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from ringfence.actions.account import READS, Canary, Identity, by_group, look_at, no_pod_stops, not_shown, shown
from ringfence.actions.base import Action, inverse
from ringfence.actions.perform import in_place
from ringfence.actions.workload import tried
from ringfence.errors import NotFound
from ringfence.model.base import Json
from ringfence.model.journal import ChangeRecord
from ringfence.model.objects import ObjectRef
from ringfence.model.outcome import Already, Refused
from ringfence.model.permission import Permission
from ringfence.model.plan import Change, Inverse, Plan, Verb
from ringfence.model.proof import Proof
from ringfence.platform.kubernetes import token_policy
from ringfence.platform.kubernetes.pods import mounts_token
from ringfence.platform.kubernetes.resources import resource_of

_OWN = frozenset({"get", "list", "create", "delete"})
_NOT_COVERED = (
    "it refuses writes: what the token may read, it goes on reading (admission sees no get, list or watch)",
    "admission does not see the objects that configure it: who may write these can take the policy away",
    "a token that is bound to no pod is not met: one in a Secret, or one that was minted for the account alone",
    "the pod itself writes nothing to the API any more either, should it still serve",
)


class CutIdentity(Action[Identity]):
    """Refuse what the pod's tokens would write. ``canary`` tries it, where there is one."""

    name = "identity.cut"
    kinds = frozenset({"Pod"})
    destructive = False
    permissions = (
        Permission(
            "validatingadmissionpolicies.admissionregistration.k8s.io",
            _OWN,
            "the policy that refuses what the suspect's tokens write, and taking it back",
            everywhere=True,
        ),
        Permission(
            "validatingadmissionpolicybindings.admissionregistration.k8s.io",
            _OWN,
            "what puts that policy in force, and taking it back",
            everywhere=True,
        ),
        *READS,
    )
    canary: Canary | None = None

    def look(self, cluster_id: str, target: ObjectRef, pool: ThreadPoolExecutor) -> Identity:  # noqa: ARG002
        return look_at(self.cluster, target, pool)

    def plan(self, target: ObjectRef, around: Identity) -> Plan | Already | Refused:
        """The policy, then its binding. Refused where the cluster has no such policies."""
        wanted = self._changes(target)
        missing = []
        try:
            for change in wanted:
                # Asked for as a list: a cluster without this API says so to a list alone in words that can be trusted.
                found = self.cluster.list(resource_of(change.ref), fields=f"metadata.name={change.ref.name}")
                if found and not in_place(change, found[0]):
                    return _changed(change)
                if not found:
                    missing.append(change)
        except NotFound as error:
            return Refused(
                reason=f"the cluster has no admission policies of its own (Kubernetes 1.30 and later): {error.why}",
                next_step="take the account's rights instead: ringfence cut-identity INC --bindings",
            )
        if not missing:
            return Already(reason=f"the policy {wanted[0].ref.name} is in force")
        for change in missing:
            refused = tried(self.cluster, change)
            if refused is not None:
                return refused
        return Plan(
            action=self.name,
            target=target,
            changes=tuple(missing),
            impact=no_pod_stops(),
            caveats=self._caveats(around),
            rationale=f"what the pod's tokens write is refused; {around.words} may: {around.rights.words}",
        )

    def verify(self, target: ObjectRef, records: Sequence[ChangeRecord]) -> Proof:  # noqa: ARG002
        """Computed when both objects read back as they were wanted; proven when a canary's write was refused."""
        if why := token_policy.not_in_force(self.cluster, self.settings.fence, target.uid):
            return not_shown("the requests were accepted, and the policy is not in force", why)
        claim = "the API server refuses what a token bound to the pod writes, execs, attaches or forwards"
        by = "the policy and its binding, read back from the API server as they were wanted"
        return shown(claim, by, self.canary(target) if self.canary else None, "no canary token has tried a write")

    def undo(self, record: ChangeRecord) -> Change | Already | Refused:
        ref = record.change.ref
        live = self.cluster.find(resource_of(ref), "", ref.name)
        if live is None or live["metadata"]["uid"] != record.result_uid:
            return Already(reason=f"{ref} is gone")
        return inverse(record)

    def _changes(self, target: ObjectRef) -> tuple[Change, Change]:
        fence, uid = self.settings.fence, target.uid
        return (
            _create(target, "policy", token_policy.policy(fence, uid), "a policy that refuses what the token writes"),
            _create(target, "binding", token_policy.binding(fence, uid), "the policy is in force, for this pod alone"),
        )

    @staticmethod
    def _caveats(around: Identity) -> tuple[str, ...]:
        own = () if mounts_token(around.pod) else ("no API token is mounted in the pod: there may be none to refuse",)
        return (*own, *_NOT_COVERED, *by_group(around))


def _changed(change: Change) -> Refused:
    return Refused(
        reason=f"{change.ref} is not as Ringfence made it: somebody has changed it",
        next_step=f"look at it, then delete it: kubectl delete {change.ref.kind.lower()} {change.ref.name}",
    )


def _create(target: ObjectRef, id: str, body: Json, effect: str) -> Change:  # noqa: A002
    ref = ObjectRef(
        cluster=target.cluster, api_version=body["apiVersion"], kind=body["kind"], name=body["metadata"]["name"]
    )
    return Change(id=id, ref=ref, verb=Verb.CREATE, body=body, inverse=Inverse(verb=Verb.DELETE), effect=effect)
