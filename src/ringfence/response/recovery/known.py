"""Which pods are no unknown siblings of the suspects: those that a recovery has started and looked at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime

from ringfence.access.facts import Facts
from ringfence.errors import PlatformError
from ringfence.model.access import AccessPath
from ringfence.model.base import Json
from ringfence.model.recovery_events import WatchOpened
from ringfence.model.timeline import Event, RunStarted
from ringfence.platform.kubernetes import owners
from ringfence.platform.kubernetes.surroundings import Siblings
from ringfence.response.context import Context

REPLACEMENT = "workload.replacement"
"""The row about the template that the suspects' workload starts pods from."""


def without_restored(
    context: Context, events: Sequence[Event], gathered: Sequence[Facts], rows: Sequence[AccessPath]
) -> list[Facts]:
    """The facts without pods of restored workloads that started after the recovery did, among the siblings.

    A pod of the suspects' image stays among them, unless the image was accepted: ``rows`` says so. Before a watch
    window there is none.
    """
    image_accepted = any(row.path == REPLACEMENT and row.acceptance for row in rows)
    opened = next((event for event in reversed(events) if isinstance(event, WatchOpened)), None)
    if opened is None:
        return list(gathered)
    began = next(
        (event.occurred_at for event in events if isinstance(event, RunStarted) and event.run == opened.run),
        opened.occurred_at,
    )
    uids = {ref.uid for ref in opened.workloads}
    known: dict[str, owners.Owner] = {}

    def is_restored(pod: Json) -> bool:
        if datetime.fromisoformat(pod["metadata"]["creationTimestamp"]) < began.replace(microsecond=0):
            return False
        try:
            chain = owners.owner_chain(context.cluster, context.cluster_id, pod, known=known)
        except PlatformError:
            return False  # not known to be: it stays
        return any(owner.ref.uid in uids for owner in chain)

    return [
        facts
        if facts.siblings is None
        else replace(facts, siblings=_without(facts.siblings, is_restored, image_accepted=image_accepted))
        for facts in gathered
    ]


def _without(siblings: Siblings, is_restored: Callable[[Json], bool], *, image_accepted: bool) -> Siblings:
    image = {pod["metadata"]["uid"] for pod in siblings.by_image}
    restored = {
        pod["metadata"]["uid"]
        for pod in (*siblings.by_image, *siblings.by_account)
        if (image_accepted or pod["metadata"]["uid"] not in image) and is_restored(pod)
    }
    if not restored:
        return siblings
    return replace(
        siblings,
        by_image=tuple(pod for pod in siblings.by_image if pod["metadata"]["uid"] not in restored),
        by_account=tuple(pod for pod in siblings.by_account if pod["metadata"]["uid"] not in restored),
        scope=f"{siblings.scope}, but {len(restored)} that recovery has started and looked at",
    )
