"""From results and rows to a view, and from a view to an exit code."""

from __future__ import annotations

from typing import assert_never

from ringfence import app as wiring
from ringfence.cli.view import Customers, View
from ringfence.config import Config
from ringfence.errors import ExitCode
from ringfence.model.incident import Incident
from ringfence.model.outcome import Already, Applied, Failed, Outcome, Refused, Skipped, Unknown
from ringfence.model.proof import Proof
from ringfence.response.contain import Containment
from ringfence.response.context import Context
from ringfence.response.ending import Ending
from ringfence.response.statement import Statement, retest
from ringfence.store import access, evidence, incidents
from ringfence.store.database import Store


def of_containment(context: Context, result: Containment) -> View:
    return _view(
        context.store,
        result.incident,
        result.statement,
        outcome=result.outcome,
        outcome_of="contain",
        proof=result.proof,
        seconds_to_cut=result.seconds_to_cut,
        evidence_problem=result.evidence_problem,
    )


def of_ending(context: Context, result: Ending) -> View:
    return _view(
        context.store,
        result.incident,
        result.statement,
        outcome=result.outcome,
        outcome_of=result.verb,
        proof=result.proof,
    )


def of_incident(context: Context, incident: Incident) -> View:
    """The incident as it is now: retested."""
    return _view(context.store, incident, retest(context, incident))


def as_stored(config: Config, incident_id: str, why: str) -> View:
    """The incident as it was last seen, for when the cluster cannot be reached. Raises TargetError, StoreError."""
    store = wiring.store(config)
    with store.read() as session:
        incident = incidents.get(session, incident_id)
        rows = access.rows(session, incident.id)
    return _view(store, incident, Statement(rows, None, why))


def exit_code(view: View) -> ExitCode:
    """A finding is not a failure: open rows end with 0. What was asked for and not done does not."""
    match view.outcome:
        case None | Applied() | Already():
            return ExitCode.STORAGE if view.evidence_problem else ExitCode.OK
        case Refused() | Skipped():
            return ExitCode.REFUSED
        case Failed() | Unknown():
            return ExitCode.INCOMPLETE
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
) -> View:
    with store.read() as session:
        current = incidents.get(session, incident.id)
        seals = evidence.seals(session, incident.id)
        items = evidence.items(session, incident.id, evidence.capture_of(session, seals[-1].id)) if seals else ()
    facts = statement.facts
    siblings = facts.siblings if facts else None
    serving = facts.serving if facts else ()
    return View(
        incident=current,
        rows=statement.rows,
        customers=tuple(Customers(s.service, s.ready, s.desired, s.replacements) for s in serving),
        customers_known=facts is not None,
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
    )
