"""From results and rows to a view, and from a view to an exit code."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, assert_never

from ringfence import app as wiring
from ringfence.cli.view import Customers, View
from ringfence.config import Config
from ringfence.errors import Denied, ExitCode, NotSent, Unanswered
from ringfence.model.custody import HeadAnchored
from ringfence.model.evidence import Seal
from ringfence.model.incident import Incident
from ringfence.model.outcome import Already, Applied, Failed, Outcome, Refused, Skipped, Unknown
from ringfence.model.proof import Proof
from ringfence.model.run import Approval, Decision, Run, RunState, StepRun
from ringfence.model.timeline import Event, NodeHelperSwitched
from ringfence.response import node_events
from ringfence.response.context import Context, Policy
from ringfence.response.statement import Statement, retest
from ringfence.store import (
    access,
    approvals,
    commands,
    enforcement,
    evidence,
    incidents,
    pages,
    runs,
    targets,
    timeline,
)
from ringfence.store.database import Session, Store

if TYPE_CHECKING:
    from ringfence.response.results import Result

_BY_CODE = {error.code: error.exit_code for error in (Denied, NotSent, Unanswered)}
"""A step that failed for one of these reasons ends the command as the error itself would."""


def of_result(context: Context, result: Result, seconds_to_cut: float | None = None) -> View:
    return _view(
        context.store,
        result.incident,
        result.statement,
        outcome=result.outcome,
        outcome_of=result.verb,
        proof=result.proof,
        seconds_to_cut=seconds_to_cut,
        evidence_problem=result.evidence_problem,
        run=result.run,
        steps=result.steps,
        wanted=_wanted(context.policy),
    )


def of_incident(context: Context, incident: Incident) -> View:
    """The incident as it is now: retested."""
    return _view(context.store, incident, retest(context, incident), wanted=_wanted(context.policy))


def as_stored(config: Config, incident_id: str, why: str) -> View:
    """The incident as it was last seen, for when the cluster cannot be reached. Raises TargetError, StoreError."""
    store = wiring.store(config)
    with store.read() as session:
        incident = incidents.get(session, incident_id)
        rows = access.rows(session, incident.id)
    wanted = Wanted(
        wiring.copy_place(config),
        config.signing.timestamp_url is not None,
        config.anchor.places,
        wiring.allows_node_helper(config),
    )
    return _view(store, incident, Statement(rows, (), why), wanted=wanted)


@dataclass(frozen=True)
class Wanted:
    """What the configuration asks for, for seals and timelines; and whether it allows the node helper."""

    copies: str
    stamps: bool
    anchors: tuple[str, ...]
    node_helper: bool


def _wanted(policy: Policy) -> Wanted:
    return Wanted(policy.copy_place, policy.stamps, policy.anchor_places, policy.node_helper is not None)


def exit_code(view: View, run: Run | None = None) -> ExitCode:
    """A finding is not a failure: open rows end with 0. What was asked for and not done does not, and neither does a
    run that waits for a person or ended before its time."""
    if run is not None and run.state in (RunState.FAILED, RunState.WAITING, RunState.CANCELLED):
        own = _of_outcome(view)
        return ExitCode.INCOMPLETE if own is ExitCode.OK else own
    return _of_outcome(view)


def _of_outcome(view: View) -> ExitCode:
    match view.outcome:
        case None | Applied() | Already():
            return ExitCode.STORAGE if view.evidence_problem else ExitCode.OK
        case Refused() | Skipped():
            return ExitCode.REFUSED
        case Failed(problem=problem) | Unknown(problem=problem):
            return _BY_CODE.get(problem.code, ExitCode.INCOMPLETE)
        case _:
            assert_never(view.outcome)


def _view(
    store: Store,
    incident: Incident,
    statement: Statement,
    *,
    outcome: Outcome | None = None,
    outcome_of: str = "",
    proof: Proof | None = None,
    seconds_to_cut: float | None = None,
    evidence_problem: str = "",
    run: Run | None = None,
    steps: tuple[StepRun, ...] = (),
    wanted: Wanted,
) -> View:
    with store.read() as session:
        current = incidents.get(session, incident.id)
        seals = evidence.seals(session, incident.id)
        items = evidence.items(session, incident.id, evidence.capture_of(session, seals[-1].id)) if seals else ()
        members = targets.of_incident(session, incident.id)
        all_runs = runs.of_incident(session, incident.id)
        waiting: tuple[Approval, ...] = tuple(
            one for one in approvals.of_incident(session, incident.id) if one.decision is Decision.PENDING
        )
        lease = commands.lease_of(session, incident.id)
        lacking = _lacking(session, incident.id, seals, wanted)
        unpaged = pages.undelivered(session, incident.id)
        known = enforcement.newest(session, incident.cluster)
        helper_on = node_events.is_on(timeline.events_of(session, incident.id, NodeHelperSwitched))
    siblings, serving = statement.siblings, statement.serving
    return View(
        incident=current,
        rows=statement.rows,
        customers=tuple(Customers(s.service, s.ready, s.desired, s.replacements) for s in serving),
        customers_known=bool(statement.facts),
        same_image=len(siblings.by_image) if siblings else None,
        same_account=len(siblings.by_account) if siblings else None,
        seals=seals,
        items=items,
        evidence_problem=evidence_problem,
        unread=statement.why,
        outcome=outcome,
        outcome_of=outcome_of,
        proof=proof,
        seconds_to_cut=seconds_to_cut,
        targets=members,
        runs=all_runs,
        run=run,
        steps=steps,
        helper_on=helper_on,
        helper_allowed=wanted.node_helper,
        enforcement=known,
        enforcement_words=known.words(datetime.now(UTC)) if known is not None else "",
        waiting=waiting,
        lease=lease,
        unpaged=unpaged,
        **lacking,
    )


def _lacking(session: Session, incident: str, seals: tuple[Seal, ...], wanted: Wanted) -> dict[str, tuple[str, ...]]:
    """What the evidence has not, where it is to have it, each with the reason."""
    if not wanted.copies and not wanted.stamps and not wanted.anchors:
        return {}
    from ringfence.evidence import copies, stamping

    events = [entry.event for entry in timeline.read(session, incident)]
    unstamped = stamping.missing(events, seals) if wanted.stamps else ()
    return {
        "uncopied": tuple(f"{seal.id}: {why}" for seal, why in copies.missing(events, seals, wanted.copies)),
        "unstamped": tuple(f"{seal.id}: {why}" for seal, why in unstamped),
        "unanchored": tuple(f"{place}: {why}" for place in wanted.anchors if (why := _unanchored(events, place))),
    }


def _unanchored(events: list[Event], place: str) -> str:
    words = [one for one in events if isinstance(one, HeadAnchored) and one.place == place]
    if not words:
        return "no head of this timeline was anchored yet"
    return words[-1].why


def same(one: View, other: View) -> bool:
    """Whether a screen would say the same but for the time."""
    return _timeless(one) == _timeless(other)


def _timeless(view: View) -> object:
    rows = tuple(row.model_copy(update={"as_of": view.incident.declared_at}) for row in view.rows)
    return (
        rows,
        view.incident.state,
        view.customers,
        view.seals,
        view.runs,
        view.waiting,
        view.lease,
        view.unread,
        view.unpaged,
        view.uncopied,
        view.unstamped,
        view.unanchored,
    )
