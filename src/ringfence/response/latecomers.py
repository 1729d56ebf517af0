"""Pods of a group that started after its survey, and before it was cut: nobody has looked at them.

What a name means is looked up once, when the command begins. Once a pod was taken out of its controller, that starts
another in its place, and the API does not tell a replacement from a pod that somebody started then. So a pod that
started before the first one was taken out is none of ours, and is cut like the group; who started later is named.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from ringfence.actions.network import DETACH, FENCE
from ringfence.errors import PlatformError, TargetError
from ringfence.model.journal import ChangeRecord
from ringfence.model.objects import ObjectRef
from ringfence.model.outcome import is_done
from ringfence.model.run import Run, RunState
from ringfence.platform.kubernetes.resources import POD
from ringfence.playbooks import load
from ringfence.response.context import Context
from ringfence.response.orders import Found
from ringfence.response.seek import meant
from ringfence.store import journal, runs, targets

_SHOW = 5
_CLOCKS = timedelta(seconds=2)
"""Creation times are cut to whole seconds of the API server's clock, and how far that is from ours is known to half of
one, less what an answer takes: who started in this time before the cut may be a replacement, and is named only."""


@dataclass(frozen=True)
class Late:
    """``missed`` started before the group was cut; ``since`` since then: replacements, or not. ``why``: it could not be
    looked at."""

    missed: tuple[Found, ...] = ()
    since: tuple[ObjectRef, ...] = ()
    why: str = ""


def look(context: Context, run: Run, *, cut_since: datetime | None = None) -> Late:
    """After a run has cut a group. ``cut_since``: for whom was cut before that, somebody has looked.

    Raises StoreError, PlaybookError.
    """
    if run.order.group is None or run.state is RunState.CANCELLED:
        return Late()
    with context.store.read() as session:
        records = journal.of_incident(session, run.incident)
        known = {ref.uid for ref in targets.of_incident(session, run.incident)}
        playbook = load(runs.playbook_bytes(session, run.id), run.playbook)
    moment = _first_taken(run, records)
    if moment is None or (cut_since is not None and moment < cut_since):
        return Late()  # nothing was cut: the same command again looks them up anew
    limit = moment + timedelta(milliseconds=context.cluster.clock_offset_ms or 0) - _CLOCKS
    try:
        found, _ = meant(context, run.order.group, playbook)
    except TargetError:
        return Late()  # it means no pod any more
    except PlatformError as error:
        return Late(why=str(error))
    pods = [one for one in found if one.ref.kind == POD.kind and one.ref.uid not in known]
    missed = tuple(one for one in pods if _started(one) < limit)
    return Late(missed, tuple(one.ref for one in pods if one not in missed))


def names(refs: Sequence[ObjectRef]) -> str:
    """A few of them by name, the rest as a number."""
    more = f" and {len(refs) - _SHOW} more" if len(refs) > _SHOW else ""
    return ", ".join(str(ref) for ref in refs[:_SHOW]) + more


def _first_taken(run: Run, records: Sequence[ChangeRecord]) -> datetime | None:
    """When the first pod of the run was taken out of its controller; when none was, the end of the last cut in place,
    which nobody replaces. By our clock; None when none was cut."""
    mine = {target.uid for target in run.targets}
    done = [
        record
        for record in records
        if record.change.ref.uid in mine
        and record.intended_at >= run.created_at
        and record.outcome is not None
        and is_done(record.outcome)
    ]
    detached = [record.intended_at for record in done if record.change.id == DETACH]
    fenced = [record.answered_at or record.intended_at for record in done if record.change.id == FENCE]
    return min(detached) if detached else max(fenced, default=None)


def _started(one: Found) -> datetime:
    return datetime.fromisoformat(one.obj["metadata"]["creationTimestamp"])
