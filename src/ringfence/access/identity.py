"""The rows of the statement about the pod's Kubernetes identity (pure).

A token that is bound to a pod is accepted until the pod or its account is gone, whatever was cut: what is left to it
until then is a matter of rights. So a cut by admission or by bindings makes the row dead only when nothing is left that
every account may not do, and a canary was refused what it was let do before.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ringfence.access.facts import Facts
from ringfence.access.row import alive, dead, unseen
from ringfence.model.access import AccessPath
from ringfence.model.base import isoformat
from ringfence.model.proof import Level
from ringfence.platform.kubernetes import pods
from ringfence.platform.kubernetes.selectors import printable

if TYPE_CHECKING:
    from ringfence.platform.kubernetes.audit_event import AuditEvent

_SHOW = 5


def rows(facts: Facts) -> Iterator[AccessPath]:
    """The pod's token, the account's other tokens, and what the account did."""
    yield from _token(facts)
    yield _legacy(facts)
    yield _persistence(facts)


def _token(facts: Facts) -> Iterator[AccessPath]:
    path, title = "identity.kubernetes", "The pod's Kubernetes token"
    if facts.live is not None:
        yield _live_token(facts, path, title)
    elif facts.token_refused:
        yield dead(
            facts,
            path,
            title,
            "a canary token bound to the same pod was accepted before and is refused (401) now",
            level=Level.PROVEN,
        )
    else:
        yield unseen(
            facts,
            path,
            title,
            Level.COMPUTED,
            "the API server refuses tokens of a deleted pod within about a minute; not tried here",
            "a canary token bound to the pod (needs create on serviceaccounts/token)",
        )


def _live_token(facts: Facts, path: str, title: str) -> AccessPath:
    """The row while the pod lives: its token is accepted, so that what is left to it is a matter of rights."""
    if not pods.mounts_token(facts.pod):
        words = "no token is mounted in the pod"
        return unseen(facts, path, title, Level.COMPUTED, words, "the audit log of the account")
    account = f"{facts.pod['metadata']['namespace']}/{pods.service_account(facts.pod)}"
    cut = facts.token_cut
    if facts.token_refused:
        return alive(
            facts,
            path,
            title,
            f"tokens of the old {account} are refused (401), a canary's was; but the pod runs on, and gets one "
            f"of the new account from its kubelet{_may(facts)}",
            until="the pod is deleted",
            retest="ringfence cut-identity --bindings, or eradicate",
        )
    if cut.unbound and facts.rights is not None and not facts.rights.effective:
        words = f"no binding gives {account} rights any more; its token may do what every account may, and no more"
        if cut.reads_refused:
            tried = "a canary token of the same pod was let read before, and is refused (403) since"
            return dead(facts, path, title, f"{words}: {tried}", level=Level.PROVEN)
        return unseen(facts, path, title, Level.COMPUTED, f"{words}; not tried", "a canary of cut-identity")
    return alive(
        facts,
        path,
        title,
        f"a token of {account} is mounted in the pod and works from anywhere that reaches the API server"
        f"{_refused_writes(facts)}{_may(facts)}",
        until="the pod or its account is deleted; by its own expiry only after up to a year",
        retest="ringfence cut-identity; or eradicate, and a token bound to the same pod is tried",
    )


def _refused_writes(facts: Facts) -> str:
    cut = facts.token_cut
    if not cut.policy:
        return ""
    if cut.policy_fault:
        return f"; the admission policy that refused its writes does not hold: {cut.policy_fault}"
    tried = "and has refused a canary's" if cut.writes_refused else "which no canary has tried"
    return f"; the admission policy {cut.policy} refuses its writes ({tried}), but no reads and no admission objects"


def _may(facts: Facts) -> str:
    if facts.rights is None:
        return f"; what the account may do was not read: {facts.rights_unread}" if facts.rights_unread else ""
    left = "still may" if facts.token_cut.unbound else "may"
    return f"; the account {left}: {facts.rights.words}"


def _legacy(facts: Facts) -> AccessPath:
    path, title = "identity.legacy", "Long-lived tokens of the same account, kept in Secrets"
    account = f"{facts.pod['metadata']['namespace']}/{pods.service_account(facts.pod)}"
    if facts.legacy is None:
        why = f"; their metadata: {facts.legacy_unread}" if facts.legacy_unread else ""
        return unseen(
            facts,
            path,
            title,
            Level.NONE,
            f"Ringfence reads no Secrets; a token of {account} in one would outlive the pod{why}",
            "Secrets of type kubernetes.io/service-account-token that name the account (identity.legacy_tokens)",
        )
    if facts.legacy:
        names = [printable(str(secret["metadata"]["name"])) for secret in facts.legacy[:_SHOW]]
        more = f" and {len(facts.legacy) - _SHOW} more" if len(facts.legacy) > _SHOW else ""
        return alive(
            facts,
            path,
            title,
            f"{len(facts.legacy)} Secrets hold tokens of {account} that never expire: {', '.join(names)}{more}",
            until="the Secret or the account is deleted",
            retest="ringfence cut-identity --legacy-tokens",
        )
    return dead(facts, path, title, f"the API server lists no Secret that holds a token of {account}")


def _persistence(facts: Facts) -> AccessPath:
    path, title = "persistence", "What the account has created or changed"
    account = f"{facts.pod['metadata']['namespace']}/{pods.service_account(facts.pod)}"
    if facts.doings is None:
        why = f"whatever {account} may create could be a way back in; "
        why += f"the audit log: {facts.doings_unread}" if facts.doings_unread else "it is not looked for"
        return unseen(facts, path, title, Level.NONE, why, "the audit log of the account's writes (audit.log)")
    did = facts.doings
    if did.calls:
        count = len(did.calls) + did.more
        words = ", ".join(_call(call) for call in did.calls[:_SHOW])
        more = f" and {count - _SHOW} more" if count > _SHOW else ""
        return alive(
            facts,
            path,
            title,
            f"{account} made {count} changes since the pod started, not known to be clean: {words}{more}",
            until="each was looked at",
            retest="the audit log of the account's writes",
            level=Level.OBSERVED,
        )
    covered = ", ".join(f"{isoformat(first)[:19]}Z to {isoformat(last)[:19]}Z" for first, last in did.spans)
    return unseen(
        facts,
        path,
        title,
        Level.COMPUTED,
        f"this audit log has no change by {account} since the pod started; it covers {covered or 'nothing'}, and "
        "another API server has a log of its own",
        "the logs of every API server, without a gap",
    )


def _call(call: AuditEvent) -> str:
    what = f"{call.resource}/{call.subresource}" if call.subresource else call.resource
    name = f"{call.namespace}/{call.name}".strip("/")
    return f"{printable(call.verb)} {printable(what or call.path)} {printable(name)}".strip()
