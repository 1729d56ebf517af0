"""The rows of the residual-access statement for one pod (pure).

Each row says what is known, how well, and what would show more. Computed alone never makes a row dead: policies that
deny everything are worth what the network plugin makes of them, until a canary behind the same fence was refused. Once
the kubelet has confirmed that the pod is gone, its network is gone with it, and that is an observation.
"""

from __future__ import annotations

from collections.abc import Iterator

from ringfence.access.facts import Facts
from ringfence.model.access import AccessPath, PathState
from ringfence.model.base import Json, isoformat
from ringfence.model.canary import CanaryPath, CanaryResult
from ringfence.model.proof import Level
from ringfence.platform.kubernetes import pods
from ringfence.platform.kubernetes.policies import Direction
from ringfence.platform.kubernetes.selectors import printable

_GONE = "the pod is gone: the kubelet let its object go only after its containers had ended"
_SHOW = 5


def rows(facts: Facts) -> tuple[AccessPath, ...]:
    """The statement, most urgent ways first."""
    return tuple(
        row
        for part in (_network, _established, _dns, _token, _unlooked_for, _cloud, _siblings, _replacement, _node)
        for row in part(facts)
    )


def _network(facts: Facts) -> Iterator[AccessPath]:
    for direction, word in ((Direction.EGRESS, "out of"), (Direction.INGRESS, "into")):
        path, title = f"network.{direction.value.lower()}", f"New connections {word} the pod"
        if facts.live is None:
            yield _dead(facts, path, title, _GONE)
        elif shut := _cut_on_node(facts):
            yield _dead(facts, path, title, shut)
        elif facts.isolation is None or facts.isolation.host_network:
            yield _alive(facts, path, title, "the pod is on its node's network: no NetworkPolicy governs it")
        elif facts.isolation.shut(direction):
            # A DNS query that gets out is a way out: what carries names carries data.
            others = ("network.dns",) if direction is Direction.EGRESS else ()
            yield _tried(
                facts,
                path,
                title,
                others,
                "every policy that selects the pod was read back, and none allows it",
                "a canary that tries the fence, or the network plugin's drop counter",
            )
        else:
            openings = "; ".join(opening.summary for opening in facts.isolation.opens(direction)[:_SHOW])
            yield _alive(facts, path, title, openings or "no policy isolates the pod in this direction")


def _cut_on_node(facts: Facts) -> str:
    """Why nothing of the pod's network passes its node; empty when that is not known.

    A report with a hole shows nothing, and neither does one of another sandbox: that has another address.
    """
    report = facts.node_cut
    if report is None or report.network is None or report.holes or facts.live is None:
        return ""
    if not report.addresses or report.addresses != pods.addresses(facts.live):
        return ""
    network = report.network
    return (
        f"the node drops everything on {printable(', '.join(network.interfaces))}: read back from its kernel and tried "
        f"by the node helper on {printable(report.node)}, {isoformat(report.ended_at)[:19]}Z; dropped by then: "
        f"{network.dropped_out} packets out, {network.dropped_in} in"
    )


def _tried(facts: Facts, path: str, title: str, others: tuple[str, ...], computed: str, retest: str) -> AccessPath:
    """A row that the policies shut, as far as a canary has shown. ``others`` are rows whose open paths open it too."""
    report = facts.network_canary
    if report is None:
        return _unseen(facts, path, title, Level.COMPUTED, f"{computed}; not proven on packets", retest)
    where = f"a canary behind the same fence on {printable(report.node)}, {isoformat(report.tried_at)[:19]}Z"
    if report.why or report.basis != facts.network_basis:
        why = report.why or "the pod's labels or its policies have changed since"
        return _unseen(facts, path, title, Level.COMPUTED, f"{computed}; {where}, does not prove it: {why}", retest)
    if opened := report.of((path, *others), CanaryResult.ACCEPTED):
        return _alive(
            facts,
            path,
            title,
            f"{computed}, and yet {where}, got through: {_ways(opened)}",
            until="the network plugin enforces the fence, or the pod is deleted",
            retest="another canary, when the network plugin was looked at",
            level=Level.OBSERVED,
        )
    untried = report.of((path,), CanaryResult.NOT_POSSIBLE)
    besides = f"; could not be tried: {_ways(untried)}" if untried else ""
    if shut := report.of((path,), CanaryResult.REFUSED):
        words = f"{computed}; {where}, was refused on each of {len(shut)} paths that are open without the fence"
        return _dead(facts, path, title, f"{words}: {_ways(shut)}{besides}", level=Level.PROVEN)
    return _unseen(facts, path, title, Level.COMPUTED, f"{computed}; {where}, tried nothing of it{besides}", retest)


def _ways(found: tuple[CanaryPath, ...]) -> str:
    named = [f"{one.way} ({one.why})" if one.why else one.way for one in found[:_SHOW]]
    return "; ".join(named) + (f"; and {len(found) - _SHOW} more" if len(found) > _SHOW else "")


def _established(facts: Facts) -> Iterator[AccessPath]:
    path, title = "network.established", "Connections that were open before the cut"
    if facts.live is None:
        yield _dead(facts, path, title, _GONE)
        return
    if shut := _cut_on_node(facts):
        yield _dead(facts, path, title, shut)
        return
    yield _alive(
        facts,
        path,
        title,
        "whether policies cut open connections is up to the network plugin, and the API shows none of them",
        until="both ends keep it, or the pod is deleted",
        retest="a node cut (ringfence node INC cut), flow logs of the network plugin, or the pod's deletion",
        level=Level.NONE,
    )


def _dns(facts: Facts) -> Iterator[AccessPath]:
    path, title = "network.dns", "DNS queries, which carry data out as well"
    if facts.live is None:
        yield _dead(facts, path, title, _GONE)
    elif shut := _cut_on_node(facts):
        yield _dead(facts, path, title, shut)
    elif facts.isolation is None or facts.isolation.host_network or facts.isolation.allows_dns():
        yield _alive(facts, path, title, "port 53 is open for the pod")
    else:
        yield _tried(
            facts,
            path,
            title,
            (),
            "no policy allows the pod port 53 any more; a resolver on its own node is out of any policy's reach",
            "a canary's query",
        )


def _token(facts: Facts) -> Iterator[AccessPath]:
    path, title = "identity.kubernetes", "The pod's Kubernetes token"
    account = f"{facts.pod['metadata']['namespace']}/{pods.service_account(facts.pod)}"
    if facts.live is not None:
        if pods.mounts_token(facts.pod):
            yield _alive(
                facts,
                path,
                title,
                f"a token of {account} is mounted in the pod and works from anywhere that reaches the API server",
                until="the pod or its account is deleted; by its own expiry only after up to a year",
                retest="ringfence eradicate, then a token bound to the same pod is tried",
            )
        else:
            yield _unseen(
                facts, path, title, Level.COMPUTED, "no token is mounted in the pod", "the audit log of the account"
            )
    elif facts.token_refused:
        yield _dead(
            facts,
            path,
            title,
            "a canary token bound to the same pod was accepted before and is refused (401) now",
            level=Level.PROVEN,
        )
    else:
        yield _unseen(
            facts,
            path,
            title,
            Level.COMPUTED,
            "the API server refuses tokens of a deleted pod within about a minute; not tried here",
            "a canary token bound to the pod (needs create on serviceaccounts/token)",
        )


def _unlooked_for(facts: Facts) -> Iterator[AccessPath]:
    """Ways that this version does not look for. They are said all the same: silence would read as their absence."""
    account = f"{facts.pod['metadata']['namespace']}/{pods.service_account(facts.pod)}"
    yield _unseen(
        facts,
        "identity.legacy",
        "Long-lived tokens of the same account, kept in Secrets",
        Level.NONE,
        f"Ringfence reads no Secrets; a token of {account} in one would outlive the pod",
        "Secrets of type kubernetes.io/service-account-token that name the account",
    )
    yield _unseen(
        facts,
        "persistence",
        "What the account has created or changed",
        Level.NONE,
        f"whatever {account} may create could be a way back in; it is not looked for",
        "the audit log of the account's writes",
    )


def _cloud(facts: Facts) -> Iterator[AccessPath]:
    if role := pods.cloud_identity(facts.pod, facts.account):
        yield _alive(
            facts,
            "identity.cloud",
            "Cloud credentials that the pod could take",
            f"the pod could take {role}; sessions that it took live on without the pod",
            until="the role's sessions are revoked",
            retest="CloudTrail, by the session's access key",
        )
    elif facts.account_unread:
        yield _unseen(
            facts,
            "identity.cloud",
            "Cloud credentials that the pod could take",
            Level.NONE,
            f"the pod names no role, and its account could not be read: {facts.account_unread}",
            "get on serviceaccounts",
        )


def _siblings(facts: Facts) -> Iterator[AccessPath]:
    kinds = (
        ("siblings.image", "Other pods that run the same image", "run the same image"),
        ("siblings.account", "Other pods of the same service account", "use the same account, each with a token"),
    )
    for path, title, words in kinds:
        if facts.siblings is None:
            yield _unseen(
                facts, path, title, Level.NONE, f"pods could not be listed: {facts.siblings_unread}", "list on pods"
            )
            continue
        found = facts.siblings.by_image if path == "siblings.image" else facts.siblings.by_account
        narrow = facts.siblings.why_narrow if path == "siblings.image" else ""
        if found:
            yield _unseen(
                facts,
                path,
                title,
                Level.NONE,
                f"{len(found)} {words}, not known to be clean: {_names(found)}",
                "ringfence contain on each, or an investigation of their logs",
            )
        elif narrow:
            yield _unseen(facts, path, title, Level.NONE, f"looked in {facts.siblings.scope}: {narrow}", "list on pods")
        else:
            yield _dead(facts, path, title, f"the API server lists none in {facts.siblings.scope}")


def _replacement(facts: Facts) -> Iterator[AccessPath]:
    path, title = "workload.replacement", "A replacement from the same template"
    if not facts.controller:
        yield _dead(facts, path, title, "the pod had no controller: nobody starts another")
        return
    yield _alive(
        facts,
        path,
        title,
        f"{facts.controller} starts pods from the same image and template, with the same hole",
        until="the image or the template is fixed",
    )


def _node(facts: Facts) -> Iterator[AccessPath]:
    path, title = "node", "The pod's node"
    reach = pods.node_access(facts.pod)
    name = printable(str(facts.pod["spec"].get("nodeName", "")) or "unscheduled")
    if reach:
        yield _alive(facts, path, title, f"{name}: " + "; ".join(reach), until="the node is inspected")
        return
    yield _unseen(
        facts,
        path,
        title,
        Level.COMPUTED,
        f"{name}: nothing in the pod's specification reaches into it; no policy stops traffic between the two, "
        "and an escape through the kernel cannot be seen from the API",
        "an inspection of the node",
    )


def _names(found: tuple[Json, ...]) -> str:
    names = [printable(f"{p['metadata']['namespace']}/{p['metadata']['name']}") for p in found[:_SHOW]]
    return ", ".join(names) + (f" and {len(found) - _SHOW} more" if len(found) > _SHOW else "")


def _dead(facts: Facts, path: str, title: str, why: str, *, level: Level = Level.OBSERVED) -> AccessPath:
    return AccessPath(path=path, title=title, state=PathState.DEAD, level=level, why=why, as_of=facts.at)


def _alive(
    facts: Facts,
    path: str,
    title: str,
    why: str,
    *,
    until: str = "",
    retest: str = "",
    level: Level = Level.COMPUTED,
) -> AccessPath:
    return AccessPath(
        path=path, title=title, state=PathState.ALIVE, level=level, why=why, until=until, retest=retest, as_of=facts.at
    )


def _unseen(facts: Facts, path: str, title: str, level: Level, why: str, retest: str) -> AccessPath:
    return AccessPath(
        path=path, title=title, state=PathState.UNSEEN, level=level, why=why, retest=retest, as_of=facts.at
    )
