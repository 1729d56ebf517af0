"""``identity.recreate_account``: delete a pod's service account and create it anew. Destructive: all its tokens die.

The new account has another uid, so that every token of the old one is refused (401), wherever it is: those of other
pods as well, until the kubelet gives them new ones (within an hour) or they are restarted; and tokens in Secrets, which
the cluster deletes with their account. Bindings name the account and not its uid: they hold for the new one.

What it does not cover: a pod that goes on running gets a token of the new account from its kubelet, a suspect too, and
so does every pod that is started later. Cut its rights, or delete the pod. There is no undo: the tokens are dead, and
the account is there.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime

from ringfence.actions.account import READS, Identity, look_at, no_pod_stops, not_shown, shared_by
from ringfence.actions.base import Action
from ringfence.actions.workload import put_back, tried
from ringfence.model.base import Json
from ringfence.model.journal import ChangeRecord
from ringfence.model.objects import ObjectRef
from ringfence.model.outcome import Already, Refused
from ringfence.model.permission import Permission
from ringfence.model.plan import Change, Plan, Verb
from ringfence.model.proof import Level, Proof
from ringfence.platform.kubernetes.resources import SERVICE_ACCOUNT

_SERVERS_OWN = ("uid", "resourceVersion", "generation", "creationTimestamp", "managedFields", "selfLink")


@dataclass(frozen=True)
class Account:
    """A pod's identity, and its account's own object; None when there is none."""

    identity: Identity
    obj: Json | None


class RecreateAccount(Action[Account]):
    """Make every token of an account worthless. ``deleted`` is the account as this incident deleted it, if it did."""

    name = "identity.recreate_account"
    kinds = frozenset({"Pod"})
    destructive = True
    permissions = (
        Permission(
            "serviceaccounts", frozenset({"get", "create", "delete"}), "to delete the account and to create it anew"
        ),
        *READS,
    )
    deleted: Json | None = None

    def look(self, cluster_id: str, target: ObjectRef, pool: ThreadPoolExecutor) -> Account:  # noqa: ARG002
        identity = look_at(self.cluster, target, pool)
        return Account(identity, self.cluster.find(SERVICE_ACCOUNT, target.namespace, identity.account))

    def plan(self, target: ObjectRef, around: Account) -> Plan | Already | Refused:
        """Delete, then create. Refused when there is no account, or it is being deleted already."""
        identity, obj = around.identity, around.obj
        if obj is None and self.deleted is not None:
            return self._rest(target, self.deleted)
        if obj is None or obj["metadata"].get("deletionTimestamp") or obj["metadata"].get("finalizers"):
            return Refused(
                reason=f"{identity.words} is not there, is on its way out, or something holds it (a finalizer)",
                next_step=f"kubectl get serviceaccount -n {target.namespace} -o yaml",
            )
        account = {"apiVersion": SERVICE_ACCOUNT.api_version, "kind": SERVICE_ACCOUNT.kind, **obj}
        ref = ObjectRef.of(target.cluster, account)
        delete = Change(
            id="delete-account",
            ref=ref,
            verb=Verb.DELETE,
            prior=account,
            effect="every token of the account is refused from now on",
        )
        create = _create(ref, account)
        for change in (delete, self._stand_in(create)):
            refused = tried(self.cluster, change)
            if refused is not None:
                return refused
        return Plan(
            action=self.name,
            target=target,
            changes=(delete, create),
            impact=no_pod_stops(),
            destroys=(ref,),
            caveats=tuple(_caveats(identity, account)),
            rationale=f"all tokens of {identity.words} die at once, stolen ones among them",
        )

    def _stand_in(self, create: Change) -> Change:
        """The creation under a name that is free: one that would be refused must be known before the deletion."""
        name = f"ringfence-{self.settings.fence}"
        body = {**create.body, "metadata": {**create.body["metadata"], "name": name}}
        return create.model_copy(update={"ref": create.ref.model_copy(update={"name": name}), "body": body})

    def _rest(self, target: ObjectRef, account: Json) -> Plan | Refused:
        """What is left of a recreation that was interrupted between its two requests."""
        create = _create(ObjectRef.of(target.cluster, account), account)
        return tried(self.cluster, create) or Plan(
            action=self.name,
            target=target,
            changes=(create,),
            impact=no_pod_stops(),
            rationale=f"{create.ref} was deleted by this incident, and is not there again",
        )

    def verify(self, target: ObjectRef, records: Sequence[ChangeRecord]) -> Proof:
        """Computed: the account is there under another uid. That a token is refused, its canary shows."""
        deleted = next((record.change.ref for record in records if record.change.verb is Verb.DELETE), None)
        live = self.cluster.find(SERVICE_ACCOUNT, target.namespace, deleted.name) if deleted else None
        if deleted is None or live is None or live["metadata"]["uid"] == deleted.uid:
            return not_shown("the requests were sent", "the account is not there under another uid")
        return Proof(
            claim="the account has another uid: the API server refuses every token of the old one",
            level=Level.COMPUTED,
            by="the account's own object, read back from the API server",
            at=datetime.now(UTC),
            why_not_higher="no token of it has been tried yet",
        )

    def undo(self, record: ChangeRecord) -> Change | Already | Refused:
        return Refused(
            reason="tokens of the old account cannot be brought back, and the account is there",
            next_step=f"restart the pods that use {record.change.ref}: they get tokens of the new one",
        )


def _create(ref: ObjectRef, account: Json) -> Change:
    return Change(
        id="create-account",
        ref=ref.model_copy(update={"uid": ""}),
        verb=Verb.CREATE,
        body=_manifest(account),
        effect="the account is there again, as it was, under another uid",
    )


def _manifest(account: Json) -> Json:
    meta = {name: value for name, value in account["metadata"].items() if name not in _SERVERS_OWN}
    # Names of token Secrets that die with the old account.
    return {**{name: value for name, value in account.items() if name != "secrets"}, "metadata": meta}


def _caveats(identity: Identity, account: Json) -> list[str]:
    found = [
        "a suspect that runs on gets a token of the new account from its kubelet: take the rights, or delete the pod",
        "tokens of the account in Secrets die with it, and the cluster deletes these Secrets",
        "bindings hold for the new account as they did for the old one",
    ]
    if identity.others:
        found.insert(
            0,
            f"{len(identity.others)} other pods use the account: the API refuses their tokens until the kubelet renews "
            f"them, which takes up to an hour, or they are restarted: {shared_by(identity.others)}",
        )
    return [*found, *put_back(account)]
