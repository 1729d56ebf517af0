"""``identity.delete_tokens``: delete the long-lived tokens of a pod's account, which are kept in Secrets. Destructive.

Secrets of type kubernetes.io/service-account-token hold tokens that are bound to no pod and never expire: they outlive
the pod, its fence and its deletion. The API server refuses one once its Secret is gone. Only the metadata of Secrets is
asked for, never their contents, so that nothing of them is saved: there is no undo. To find them takes the right to
list Secrets, which is an opt-in of its own (``identity.legacy_tokens``).

What it does not cover: copies of a token in a Secret of another type, and tokens that TokenRequest handed out.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import ClassVar

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
from ringfence.platform.kubernetes.pods import references, service_account
from ringfence.platform.kubernetes.resources import POD
from ringfence.platform.kubernetes.selectors import printable
from ringfence.platform.kubernetes.tokens import legacy_tokens


@dataclass(frozen=True)
class Kept:
    """A pod's identity, and the metadata of the Secrets that hold tokens of its account."""

    identity: Identity
    secrets: tuple[Json, ...]


class DeleteTokens(Action[Kept]):
    """Delete an account's tokens in Secrets."""

    name = "identity.delete_tokens"
    kinds = frozenset({"Pod"})
    destructive = True
    permissions = READS
    secret_rights: ClassVar[tuple[Permission, ...]] = (
        Permission(
            "secrets",
            frozenset({"get", "list", "delete"}),
            "to find the account's tokens in Secrets, by metadata alone, and to delete them; "
            "RBAC knows no metadata, so this right reads every Secret",
        ),
    )
    """Rendered only where the configuration asks for it (``identity.legacy_tokens``)."""

    def look(self, cluster_id: str, target: ObjectRef, pool: ThreadPoolExecutor) -> Kept:  # noqa: ARG002
        identity = look_at(self.cluster, target, pool)
        return Kept(identity, legacy_tokens(self.cluster, target.namespace, identity.account))

    def plan(self, target: ObjectRef, around: Kept) -> Plan | Already | Refused:
        """One deletion for each Secret."""
        words = around.identity.words
        if not around.secrets:
            return Already(reason=f"no Secret holds a token of {words}")
        held = [one["metadata"]["name"] for one in around.secrets if one["metadata"].get("finalizers")]
        if held:
            return Refused(
                reason=f"something holds Secrets (finalizers): {', '.join(map(printable, held))}",
                next_step="see who put the finalizers there; then again",
            )
        changes = tuple(_delete(target.cluster, secret) for secret in around.secrets)
        for change in changes:
            refused = tried(self.cluster, change)
            if refused is not None:
                return refused
        return Plan(
            action=self.name,
            target=target,
            changes=changes,
            impact=no_pod_stops(),
            destroys=tuple(change.ref for change in changes),
            caveats=tuple(_caveats(around)),
            rationale=f"{len(changes)} tokens of {words} are bound to no pod, and never expire",
        )

    def verify(self, target: ObjectRef, records: Sequence[ChangeRecord]) -> Proof:  # noqa: ARG002
        """Computed: the API server lists none any more. None of the tokens is known, so that none can be tried."""
        pod = self.cluster.find(POD, target.namespace, target.name)
        if pod is None:
            return not_shown("the requests were sent", "the pod is gone, and the name of its account with it")
        left = legacy_tokens(self.cluster, target.namespace, service_account(pod))
        if left:
            names = ", ".join(printable(one["metadata"]["name"]) for one in left)
            return not_shown("the requests were sent, and the account has tokens in Secrets", names)
        return Proof(
            claim="no Secret holds a token of the account: the API server refuses those that were in one",
            level=Level.COMPUTED,
            by="the metadata of the namespace's token Secrets, listed anew",
            at=datetime.now(UTC),
            why_not_higher="the tokens were never read, so that none could be tried",
        )

    def undo(self, record: ChangeRecord) -> Change | Already | Refused:
        return Refused(
            reason=f"{record.change.ref} was never read, and is gone",
            next_step="whoever needs such a token gets a short-lived one: kubectl create token",
        )


def _delete(cluster_id: str, secret: Json) -> Change:
    ref = ObjectRef.of(cluster_id, secret)
    return Change(
        id=f"delete-{ref.name}",
        ref=ref,
        verb=Verb.DELETE,
        prior=secret,
        needed=False,
        effect="the token in it is refused from now on, wherever it is used",
    )


def _caveats(around: Kept) -> list[str]:
    found = ["who uses such a token from outside the cluster (CI, monitoring) is not known here, and is shut out"]
    names = {str(one["metadata"]["name"]) for one in around.secrets}
    pods = [pod for pod in (around.identity.pod, *around.identity.others) if names & set(references(pod)["secrets"])]
    if pods:
        found.append(f"pods that refer to one of them, and cannot start again without it: {shared_by(pods)}")
    return [*found, *(words for one in around.secrets for words in put_back(one))]
