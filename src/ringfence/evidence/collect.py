"""What is collected of a pod beside its logs: objects as sent, what applies as computed, and what is not taken."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from ringfence.errors import PlatformError
from ringfence.evidence.acquire import Acquirer, What
from ringfence.model.base import Json
from ringfence.model.evidence import Collected, EvidenceItem
from ringfence.platform.kubernetes import events, pods, rbac
from ringfence.platform.kubernetes.policies import evaluate, selecting
from ringfence.platform.kubernetes.resources import (
    CLUSTER_ROLE_BINDING,
    NAMESPACE,
    NODE,
    POD,
    ROLE_BINDING,
    SERVICE_ACCOUNT,
    Resource,
)
from ringfence.platform.kubernetes.selectors import labels_of
from ringfence.platform.kubernetes.snapshot import Snapshot
from ringfence.platform.kubernetes.surroundings import Siblings, Surroundings, read_siblings

_NOT_TAKEN = (
    (
        "memory",
        "process-memory",
        1,
        "it takes the node's kubelet, and a right of its own: ringfence node INC checkpoint",
    ),
    ("disk", "writable-layer", 3, "it lies on the node, which takes a pod there: ringfence node INC collect"),
)

Task = Callable[[], Iterable[EvidenceItem]]


def pod_before(acquirer: Acquirer, around: Surroundings) -> EvidenceItem:
    """The pod as it was found, before anything was changed."""
    what = What("pod", "Pod", around.pod_reading.source, "get", volatility=2, required=True)
    return acquirer.keep(what, around.pod_reading)


def pod_as_found(acquirer: Acquirer, around: Surroundings, found: Json) -> EvidenceItem:
    """The pod before anything was changed, from the store: for a capture that begins when it is cut already."""
    how = "computed: kept in the store when the pod joined the incident"
    what = What("pod/as-found", "Pod", around.pod_reading.source, how, volatility=2)
    return acquirer.derived(what, _json(found), datetime.now(UTC))


def collect(
    acquirer: Acquirer,
    around: Surroundings,
    pool: ThreadPoolExecutor,
    view: Snapshot,
) -> list[EvidenceItem]:
    """Everything but the logs. Each item succeeds or says why not; one that fails stops no other.

    ``view`` is where is read what pods that are sealed together share: their namespace, node, account, bindings and
    siblings.
    """
    tasks: list[Task] = [
        lambda: _siblings(acquirer, view, around.pod),  # first: it is what takes longest
        lambda: (pod_before(acquirer, around),),
        lambda: (_get(acquirer, "pod/after-cut", POD, *_place(around.pod), volatility=3),),
        lambda: _owners(acquirer, around),
        lambda: _around(acquirer, around),
        lambda: (_selecting(acquirer, around), _references(acquirer, around.pod)),
        lambda: (_share(acquirer, view, "node", NODE, "", str(around.pod["spec"].get("nodeName", "")), volatility=5),),
        lambda: (_share(acquirer, view, "namespace", NAMESPACE, "", _place(around.pod)[0], volatility=7),),
        lambda: _identity(acquirer, view, around.pod),
        lambda: _events(acquirer, around.pod),
    ]
    found = [item for items in pool.map(lambda task: tuple(task()), tasks) for item in items]
    return found + [
        acquirer.missing(What(name, kind, "the node", "none", rank), Collected.NOT_TAKEN, why)
        for name, kind, rank, why in _NOT_TAKEN
    ]


def _place(pod: Json) -> tuple[str, str]:
    return pod["metadata"]["namespace"], pod["metadata"]["name"]


def _get(
    acquirer: Acquirer, item: str, resource: Resource, namespace: str, name: str, *, volatility: int
) -> EvidenceItem:
    what = What(item, resource.kind, resource.path(namespace, name), "get", volatility)
    if not name:
        return acquirer.missing(what, Collected.ABSENT, f"the pod names no {resource.kind}")
    return acquirer.read(what, lambda: (acquirer.cluster.get_bytes(resource, namespace, name),))


def _share(
    acquirer: Acquirer,
    view: Snapshot,
    item: str,
    resource: Resource,
    namespace: str,
    name: str,
    *,
    volatility: int,
) -> EvidenceItem:
    what = What(item, resource.kind, resource.path(namespace, name), "get", volatility)
    if not name:
        return acquirer.missing(what, Collected.ABSENT, f"the pod names no {resource.kind}")
    return acquirer.shared(what, lambda: view.reading(resource, namespace, name))


def _owners(acquirer: Acquirer, around: Surroundings) -> Iterable[EvidenceItem]:
    for rank, owner in enumerate(around.owners, start=1):
        what = What(f"owners/{rank}-{owner.ref.kind}", owner.ref.kind, str(owner.ref), "get", volatility=6)
        if owner.raw is None:
            yield acquirer.missing(what, Collected.FAILED, owner.why)
        else:
            yield acquirer.derived(what, owner.raw, around.pod_reading.ended_at)


def _around(acquirer: Acquirer, around: Surroundings) -> Iterable[EvidenceItem]:
    """The namespace's collections as the plan read them: before the cut."""
    for plural, reading in around.readings.items():
        what = What(f"namespace/{plural}", plural, reading.source, "list", volatility=4)
        yield acquirer.keep(what, reading)


def _selecting(acquirer: Acquirer, around: Surroundings) -> EvidenceItem:
    started = datetime.now(UTC)
    what = What(
        "networkpolicies/selecting",
        "selection",
        "pod, namespace/networkpolicies",
        "computed: which policies selected the pod before the cut, and what they allowed",
        volatility=4,
    )
    chosen = selecting(around.policies, namespace=around.pod["metadata"]["namespace"], labels=labels_of(around.pod))
    isolation = evaluate(around.pod, around.policies)
    body = {
        "selecting": [policy["metadata"]["name"] for policy in chosen],
        "ingress_isolated": isolation.ingress_isolated,
        "egress_isolated": isolation.egress_isolated,
        "openings": [opening.summary for opening in isolation.openings],
    }
    return acquirer.derived(what, _json(body), started)


def _references(acquirer: Acquirer, pod: Json) -> EvidenceItem:
    started = datetime.now(UTC)
    what = What("references", "names", "pod", "computed: names only, contents are never read", volatility=6)
    return acquirer.derived(what, _json(pods.references(pod)), started)


def _identity(acquirer: Acquirer, view: Snapshot, pod: Json) -> Iterable[EvidenceItem]:
    namespace, account = pod["metadata"]["namespace"], pods.service_account(pod)
    yield _share(acquirer, view, "serviceaccount", SERVICE_ACCOUNT, namespace, account, volatility=6)
    bindings: list[Json] = []
    unread: list[str] = []
    for resource, where in ((ROLE_BINDING, namespace), (CLUSTER_ROLE_BINDING, "")):
        what = What(f"rbac/{resource.plural}", resource.plural, resource.path(where), "list", volatility=6)
        item = acquirer.shared(what, functools.partial(view.reading, resource, where))
        yield item
        if item.result is not Collected.COLLECTED:
            unread.append(f"{resource.plural}: {item.reason}")
        else:
            bindings += [{**binding, "kind": resource.kind} for binding in view.reading(resource, where).items]
    applying = rbac.grants(namespace, account, bindings)
    body = {"account": f"{namespace}/{account}", "grants": [g.to_json() for g in applying], "unread": unread}
    what = What("rbac/applying", "grants", "rbac/*", "computed: the bindings that name the account", volatility=6)
    yield acquirer.derived(what, _json(body), datetime.now(UTC))


def _events(acquirer: Acquirer, pod: Json) -> Iterable[EvidenceItem]:
    for query in events.queries(pod["metadata"]["uid"]):
        group = query.resource.api_version.split("/")[0] if "/" in query.resource.api_version else "core"
        # In every namespace: Kyverno writes about a pod in "default". Where that is denied, in the pod's own.
        item = _list_events(acquirer, f"events/{group}", query, "")
        if item.result is Collected.DENIED:
            item = _list_events(acquirer, f"events/{group}", query, pod["metadata"]["namespace"])
        yield item


def _list_events(acquirer: Acquirer, name: str, query: events.EventQuery, namespace: str) -> EvidenceItem:
    what = What(name, "Event", query.resource.path(namespace), f"list fieldSelector={query.fields}", volatility=3)
    return acquirer.read(what, lambda: acquirer.cluster.pages(query.resource, namespace, fields=query.fields))


def _siblings(acquirer: Acquirer, view: Snapshot, pod: Json) -> Iterable[EvidenceItem]:
    siblings: Siblings | PlatformError
    try:
        siblings = read_siblings(view, pod)
    except PlatformError as error:
        siblings = error
    for by, how in (("image", "pods that run the same image digest"), ("account", "pods of the same service account")):
        what = What(f"siblings/{by}", "Pod", POD.path(), f"list, then computed: {how}", volatility=4)
        if isinstance(siblings, PlatformError):
            yield acquirer.missing(what, Collected.FAILED, str(siblings))
            continue
        chosen = siblings.by_image if by == "image" else siblings.by_account
        about = _json({"scope": siblings.scope, "why_narrow": siblings.why_narrow})
        items = b", ".join(map(view.text, chosen))
        yield acquirer.derived(what, b'{"items": [' + items + b"], " + about[1:], datetime.now(UTC))


def _json(body: object) -> bytes:
    # Without an indent: the fast encoder has none, and siblings are whole pods.
    return json.dumps(body, sort_keys=True).encode()
