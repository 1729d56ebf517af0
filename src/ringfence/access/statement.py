"""The rows of the residual-access statement for one pod (pure).

Each row says what is known, how well, and what would show more. Computed alone never makes a row dead: policies that
deny everything are worth what the network plugin makes of them, until a canary behind the same fence was refused. Once
the kubelet has confirmed that the pod is gone, its network is gone with it, and that is an observation.
"""

from __future__ import annotations

from collections.abc import Iterator

from ringfence.access import identity
from ringfence.access.facts import Facts
from ringfence.access.gitops import DeliveredObject, Kept
from ringfence.access.row import alive, dead, unseen
from ringfence.model.access import AccessPath
from ringfence.model.base import Json, isoformat
from ringfence.model.canary import CanaryPath, CanaryResult
from ringfence.model.proof import Level
from ringfence.platform.kubernetes import pods
from ringfence.platform.kubernetes.policies import Direction
from ringfence.platform.kubernetes.selectors import printable

_GONE = "the pod is gone: the kubelet let its object go only after its containers had ended"
_SHOW = 5
_LIST_APPS = "list on applications.argoproj.io"
_LIST_SCALED = "list on scaledobjects.keda.sh"


def rows(facts: Facts) -> tuple[AccessPath, ...]:
    """The statement, most urgent ways first."""
    parts = (
        *(_network, _established, _dns, identity.rows, _cloud),
        *(_siblings, _replacement, _reversal, _scaling, _node),
    )
    return tuple(row for part in parts for row in part(facts))


def _network(facts: Facts) -> Iterator[AccessPath]:
    for direction, word in ((Direction.EGRESS, "out of"), (Direction.INGRESS, "into")):
        path, title = f"network.{direction.value.lower()}", f"New connections {word} the pod"
        if facts.live is None:
            yield dead(facts, path, title, _GONE)
        elif shut := _cut_on_node(facts):
            yield dead(facts, path, title, shut)
        elif facts.isolation is None or facts.isolation.host_network:
            yield alive(facts, path, title, "the pod is on its node's network: no NetworkPolicy governs it")
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
            yield alive(facts, path, title, openings or "no policy isolates the pod in this direction")


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
        return unseen(facts, path, title, Level.COMPUTED, f"{computed}; not proven on packets", retest)
    where = f"a canary behind the same fence on {printable(report.node)}, {isoformat(report.tried_at)[:19]}Z"
    if report.why or report.basis != facts.network_basis:
        why = report.why or "the pod's labels or its policies have changed since"
        return unseen(facts, path, title, Level.COMPUTED, f"{computed}; {where}, does not prove it: {why}", retest)
    if opened := report.of((path, *others), CanaryResult.ACCEPTED):
        return alive(
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
        return dead(facts, path, title, f"{words}: {_ways(shut)}{besides}", level=Level.PROVEN)
    return unseen(facts, path, title, Level.COMPUTED, f"{computed}; {where}, tried nothing of it{besides}", retest)


def _ways(found: tuple[CanaryPath, ...]) -> str:
    named = [f"{one.way} ({one.why})" if one.why else one.way for one in found[:_SHOW]]
    return "; ".join(named) + (f"; and {len(found) - _SHOW} more" if len(found) > _SHOW else "")


def _established(facts: Facts) -> Iterator[AccessPath]:
    path, title = "network.established", "Connections that were open before the cut"
    if facts.live is None:
        yield dead(facts, path, title, _GONE)
        return
    if shut := _cut_on_node(facts):
        yield dead(facts, path, title, shut)
        return
    yield alive(
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
        yield dead(facts, path, title, _GONE)
    elif shut := _cut_on_node(facts):
        yield dead(facts, path, title, shut)
    elif facts.isolation is None or facts.isolation.host_network or facts.isolation.allows_dns():
        yield alive(facts, path, title, "port 53 is open for the pod")
    else:
        yield _tried(
            facts,
            path,
            title,
            (),
            "no policy allows the pod port 53 any more; a resolver on its own node is out of any policy's reach",
            "a canary's query",
        )


def _cloud(facts: Facts) -> Iterator[AccessPath]:
    if role := pods.cloud_identity(facts.pod, facts.account):
        yield alive(
            facts,
            "identity.cloud",
            "Cloud credentials that the pod could take",
            f"the pod could take {role}; sessions that it took live on without the pod",
            until="the role's sessions are revoked",
            retest="CloudTrail, by the session's access key",
        )
    elif facts.account_unread:
        yield unseen(
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
            yield unseen(
                facts, path, title, Level.NONE, f"pods could not be listed: {facts.siblings_unread}", "list on pods"
            )
            continue
        found = facts.siblings.by_image if path == "siblings.image" else facts.siblings.by_account
        narrow = facts.siblings.why_narrow if path == "siblings.image" else ""
        if found:
            yield unseen(
                facts,
                path,
                title,
                Level.NONE,
                f"{len(found)} {words}, not known to be clean: {_names(found)}",
                "ringfence contain on each, or an investigation of their logs",
            )
        elif narrow:
            yield unseen(facts, path, title, Level.NONE, f"looked in {facts.siblings.scope}: {narrow}", "list on pods")
        else:
            yield dead(facts, path, title, f"the API server lists none in {facts.siblings.scope}")


def _replacement(facts: Facts) -> Iterator[AccessPath]:
    path, title = "workload.replacement", "A replacement from the same template"
    if not facts.controller:
        yield dead(facts, path, title, "the pod had no controller: nobody starts another")
        return
    if (others := _other_images(facts)) is not None:
        named = ", ".join(printable(name) for name in sorted(others)[:_SHOW])
        yield dead(
            facts,
            path,
            title,
            f"the API server has another template at {facts.controller}'s by now: it asks for {named}, "
            "and for no image of the suspect",
        )
        return
    template = facts.deliveries.template
    yield alive(
        facts,
        path,
        title,
        f"will be recreated by {facts.controller} from the same image and template, with the same hole"
        + (f"; the template is what Application {template} delivers" if template else ""),
        until="the image or the template is fixed" + (", in Git" if template else ""),
    )


def _other_images(facts: Facts) -> frozenset[str] | None:
    """The images of the template, when none of them is one of the suspect's; None when one is, or it is not known."""
    asked = pods.image_names(facts.template) if facts.template is not None else frozenset()
    return asked if asked and not asked & pods.image_names(facts.pod) else None


def _reversal(facts: Facts) -> Iterator[AccessPath]:
    """Only where Argo CD delivers something that a response to this pod changes."""
    path, title = "gitops.reversal", "What was changed and Argo CD delivers"
    found = facts.deliveries
    if found.unread:
        yield unseen(facts, path, title, Level.NONE, f"Applications could not be listed: {found.unread}", _LIST_APPS)
        return
    if not found.objects:
        return
    changed = [one for one in found.objects if one.changed]
    reverted = [one for one in changed if one.kept is Kept.REVERTED]
    unknown = [one for one in changed if one.kept in (Kept.ELSEWHERE, Kept.FROZEN)]
    if reverted:
        yield alive(
            facts,
            path,
            title,
            _reversals(reverted, "will be reverted by"),
            until="the Application's automated sync is suspended, or Git has the change",
            retest="ringfence respond, whose first step is argocd.suspend_sync",
        )
    elif unknown:
        yield unseen(
            facts,
            path,
            title,
            Level.COMPUTED,
            _reversals(unknown, "may be reverted by"),
            "Argo CD's own report that it sees the change and leaves it (OutOfSync)",
        )
    elif changed:
        yield dead(facts, path, title, _reversals(changed, "is left as it is by"))
    else:
        yield dead(facts, path, title, "the API server shows none of it changed by a response")


def _reversals(found: list[DeliveredObject], words: str) -> str:
    named = [f"{one.what} {words} Application {one.application}, {one.why}" for one in found[:_SHOW]]
    return "; ".join(named) + (f"; and {len(found) - _SHOW} more" if len(found) > _SHOW else "")


def _scaling(facts: Facts) -> Iterator[AccessPath]:
    """Only where a workload above the pod was stopped, and KEDA has a scaler for it."""
    path, title, found = "keda.scaling", "What was stopped and KEDA scales", facts.scaling
    if found.unread:
        yield unseen(facts, path, title, Level.NONE, f"ScaledObjects could not be listed: {found.unread}", _LIST_SCALED)
        return
    moving = [one for one in found.scalers if not one.still]
    silent = [one for one in found.scalers if one.still and not one.reported]
    if moving:
        names = ", ".join(one.name for one in moving[:_SHOW])
        yield alive(
            facts,
            path,
            title,
            f"{found.what} will be scaled up again by KEDA's {names}: not paused",
            until="it is paused",
            retest="ringfence respond stop-workload, whose step keda.pause does it",
        )
    elif silent:
        names = ", ".join(one.name for one in silent[:_SHOW])
        why = f"{found.what} is scaled by KEDA's {names}, which is told to pause, and KEDA has not reported that it did"
        yield unseen(facts, path, title, Level.COMPUTED, why, "KEDA's own report (condition Paused)")
    elif found.scalers:
        names = ", ".join(one.name for one in found.scalers[:_SHOW])
        yield dead(facts, path, title, f"KEDA reports {names}, which scales {found.what}, as paused")


def _node(facts: Facts) -> Iterator[AccessPath]:
    path, title = "node", "The pod's node"
    reach = pods.node_access(facts.pod)
    name = printable(str(facts.pod["spec"].get("nodeName", "")) or "unscheduled")
    if reach:
        yield alive(facts, path, title, f"{name}: " + "; ".join(reach), until="the node is inspected")
        return
    yield unseen(
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
