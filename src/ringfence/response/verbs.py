"""What a person orders: ``contain``, ``respond``, ``eradicate``, ``release``, ``resume``. Each is a run of a playbook.

``contain`` is the short form for the cut and the seal: the containing phase of ``compromised-workload``. ``eradicate``
is the eradicating phase of the playbook that the incident froze; typing it is the decision that a full run waits for.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from ringfence.errors import Guarded, TargetError
from ringfence.model.incident import Determination, Incident
from ringfence.model.outcome import Refused
from ringfence.model.playbook import Phase
from ringfence.model.run import Group, Run, RunOrder
from ringfence.playbooks import find
from ringfence.response import latecomers, orders
from ringfence.response.conduct import Conductor
from ringfence.response.context import Context, now
from ringfence.response.orders import Found, Order
from ringfence.response.results import (
    CUT_IDENTITY,
    DELETE_TOKENS,
    RECOVER,
    RECREATE,
    RELEASE,
    Result,
    result_of,
    together,
)
from ringfence.store import incidents, runs

COMPROMISED = "compromised-workload"
ALL = tuple(phase.value for phase in Phase)


@dataclass(frozen=True)
class Wish:
    """What the person said beside verb and targets."""

    reason: str = ""
    command: str = ""
    accept_outage: bool = False
    break_glass: str = ""
    canary: bool = False
    shape: str = "auto"
    accept_same_image: bool = False
    bindings: bool = False
    revisions: tuple[str, ...] = ()
    probe: str = ""
    accept_findings: str = ""
    watch_seconds: int = 0
    lease_minutes: int | None = None
    group: Group | None = None


def contain(context: Context, conductor: Conductor, found: tuple[Found, ...], wish: Wish) -> Result:
    """Cut and seal. A group is looked up anew: pods that started before it was cut are cut by a second run.

    Raises Guarded, TargetError, PlaybookError, EngineError, StoreError.
    """
    return respond(context, conductor, COMPROMISED, found, wish, phases=(Phase.CONTAINING.value,), verb="contain")


def respond(
    context: Context,
    conductor: Conductor,
    playbook: str,
    found: tuple[Found, ...],
    wish: Wish,
    *,
    phases: tuple[str, ...] = ALL,
    verb: str = "respond",
) -> Result:
    """Run a playbook of the library, or of a file. Raises as ``contain``."""
    content, source = find(playbook)
    order = Order(
        playbook=content,
        source=source,
        found=found,
        reason=wish.reason,
        how=_how(wish, phases, decided=False),
        lease_minutes=wish.lease_minutes,
    )
    ordered = orders.place(context, order)
    conductor.live.say(f"{ordered.incident.id}: {ordered.run.id}")
    result = result_of(context, conductor.live, verb, ordered.joined, conductor.conduct(ordered.run.id))
    return _with_latecomers(context, conductor, result)


def eradicate(context: Context, conductor: Conductor, incident: Incident, wish: Wish) -> Result:
    """End the incident's pods, sealed; take the fence down. Raises TargetError, EngineError, StoreError."""
    phase = Phase.ERADICATING.value
    content, source = orders.frozen_playbook(context, incident, find(COMPROMISED), phase)
    how = _how(wish, (phase,), decided=True)
    run = orders.follow_up(context, incident, content, source, how)
    return result_of(context, conductor.live, "eradicate", True, conductor.conduct(run.id))


def release(context: Context, conductor: Conductor, incident: Incident, wish: Wish) -> Result:
    """A false positive: each pod by the way in which it was cut, then the fence. Raises as ``eradicate``."""
    content, source = find(RELEASE)
    how = _how(wish, ALL, decided=True)
    if incident.determination is not Determination.FALSE_POSITIVE:
        with context.store.write() as session:
            incidents.remember(session, context.principal, now())
            incidents.determine(
                session,
                incident,
                Determination.FALSE_POSITIVE,
                reason=wish.reason or "released",
                actor=context.actor,
                now=now(),
            )
    run = orders.follow_up(context, incident, content, source, how)
    return result_of(context, conductor.live, "release", True, conductor.conduct(run.id))


def cut_identity(context: Context, conductor: Conductor, incident: Incident, wish: Wish) -> Result:
    """Cut the Kubernetes identity of the incident's pods, the mildest way first. Raises as ``eradicate``."""
    content, source = find(CUT_IDENTITY)
    run = orders.follow_up(context, incident, content, source, _how(wish, ALL, decided=True))
    return result_of(context, conductor.live, CUT_IDENTITY, True, conductor.conduct(run.id))


def recover(context: Context, conductor: Conductor, incident: Incident, wish: Wish) -> Result:
    """The way back, gate after gate. Each gate that is not passed ends it there. Raises as ``eradicate``."""
    content, source = find(RECOVER)
    run = orders.follow_up(context, incident, content, source, order_of(wish))
    return result_of(context, conductor.live, RECOVER, True, conductor.conduct(run.id))


def order_of(wish: Wish) -> RunOrder:
    """What a recovery is asked for: all of it, by who types it."""
    return _how(wish, ALL, decided=True)


def recreate_account(context: Context, conductor: Conductor, incident: Incident, wish: Wish) -> Result:
    """Recreate the accounts of the incident's pods: the person who types it has decided. Raises as ``eradicate``."""
    return _destroy_identity(context, conductor, incident, wish, RECREATE)


def delete_tokens(context: Context, conductor: Conductor, incident: Incident, wish: Wish) -> Result:
    """Delete the tokens in Secrets of the accounts of the incident's pods. Raises as ``eradicate``."""
    return _destroy_identity(context, conductor, incident, wish, DELETE_TOKENS)


def _destroy_identity(context: Context, conductor: Conductor, incident: Incident, wish: Wish, playbook: str) -> Result:
    content, source = find(playbook)
    run = orders.follow_up(context, incident, content, source, _how(wish, (Phase.ERADICATING.value,), decided=True))
    return result_of(context, conductor.live, playbook, True, conductor.conduct(run.id))


def resume(context: Context, conductor: Conductor, incident: Incident) -> tuple[Result, ...]:
    """See every run of the incident that is not over to its next end. Raises TargetError when there is none."""
    left = orders.resumable(context, incident)
    if not left:
        raise TargetError(
            f"{incident.id} has no run to resume", why="each is over", next_step=f"ringfence status {incident.id}"
        )
    results = []
    for run in left:
        orders.requeue(context, run)
        result = result_of(context, conductor.live, _verb_of(run), True, conductor.conduct(run.id))
        results.append(_with_latecomers(context, conductor, result))
    return tuple(results)


def carry_on(context: Context, conductor: Conductor, run_id: str) -> Result:
    """After a decision: the run goes on. Raises EngineError, StoreError."""
    began = now()
    with context.store.read() as session:
        run = runs.get(session, run_id)
    orders.requeue(context, run)
    result = result_of(context, conductor.live, _verb_of(run), True, conductor.conduct(run_id))
    return _with_latecomers(context, conductor, result, cut_since=began)


def _with_latecomers(
    context: Context, conductor: Conductor, result: Result, *, cut_since: datetime | None = None
) -> Result:
    """The result together with that of a second run, of the playbook's containing phase, on the pods of the group that
    started before it was cut and that nobody has looked at; the result itself when there are none."""
    late = latecomers.look(context, result.run, cut_since=cut_since)
    if late.why:
        conductor.live.say(f"whether pods of it have started meanwhile is not known: {late.why}")
    if late.since:
        names = latecomers.names(late.since)
        conductor.live.say(f"started since the first was cut, as replacements or not, and not cut: {names}")
    if not late.missed:
        return result
    conductor.live.say(f"started before the first was cut: {latecomers.names(tuple(one.ref for one in late.missed))}")
    with context.store.read() as session:
        content = runs.playbook_bytes(session, result.run.id)
    phases = (Phase.CONTAINING.value,)
    how = result.run.order.model_copy(update={"phases": phases, "decided": False, "group": None})
    try:
        run = orders.follow_up(context, result.incident, content, result.run.playbook, how, found=late.missed)
    except (Guarded, TargetError) as error:
        refused = Refused(reason=f"pods that started before the first was cut are not cut: {error}")
        return replace(result, outcome=refused.model_copy(update={"next_step": error.next_step}))
    if set(result.run.order.phases) > set(phases):
        conductor.live.say("they are cut and sealed; what comes after is done to them when you order it")
    return together(result, result_of(context, conductor.live, "contain", True, conductor.conduct(run.id)))


def _how(wish: Wish, phases: tuple[str, ...], *, decided: bool) -> RunOrder:
    return RunOrder(
        phases=phases,
        decided=decided,
        accept_outage=wish.accept_outage,
        break_glass=wish.break_glass.strip(),
        canary=wish.canary,
        shape=wish.shape,
        accept_same_image=wish.accept_same_image,
        bindings=wish.bindings,
        revisions=wish.revisions,
        probe=wish.probe,
        accept_findings=wish.accept_findings,
        watch_seconds=wish.watch_seconds,
        command=wish.command,
        group=wish.group,
    )


def _verb_of(run: Run) -> str:
    if run.playbook in (RELEASE, CUT_IDENTITY, RECREATE, DELETE_TOKENS, RECOVER):
        return run.playbook
    if run.order.phases == (Phase.CONTAINING.value,):
        return "contain"
    if run.order.phases == (Phase.ERADICATING.value,):
        return "eradicate"
    return "respond"
