"""Stages on the pod's node: ``node.cut``, ``node.freeze`` and their ways back, each a run of the node helper.

The helper has to be on for the incident. What a crash left of a former run goes first; what that run did is found by
the helper, and not done twice.
"""

from __future__ import annotations

from ringfence.actions.node_helper import unfit
from ringfence.actions.node_proof import proof_of
from ringfence.errors import Guarded, PlatformError
from ringfence.model.node_helper import NODE_STEPS, NodeOrder
from ringfence.model.outcome import Refused, is_done
from ringfence.model.run import StepRun
from ringfence.response import attempts, consent, customers, node_events, node_helper, node_order, steps
from ringfence.response.node_order import Done, Wish
from ringfence.response.playbook_of import playbook_of
from ringfence.response.scene import Answer, Ended, Scene
from ringfence.response.stages.lift import find
from ringfence.store import journal, runs, timeline

CUTS = ("network.quarantine", "node.cut", "node.freeze")
"""Kinds of step that take a pod from its customers while it lives: a no to one of them holds for the others."""


def act(scene: Scene) -> Answer:
    """The order on one pod: on, looked at, asked for, carried out."""
    context, incident, target = scene.context, scene.incident, scene.object
    order = NODE_STEPS[scene.step.action]
    label = attempts.begin(context, incident, scene.label)
    with context.store.read() as session:
        events = [entry.event for entry in timeline.read(session, incident.id)]
    if (report := node_events.reported(events, target, order, scene.label)) is not None:
        return Ended(node_order.outcome_of(report), proof_of(report))
    clear(scene, label)
    customers_say = (("approval", _said_no), ("serving-floor", _held)) if order.takes else ()
    gates = (*customers_say, ("node-helper", _off))
    for gate, shut in gates:
        if (refused := shut(scene)) is not None:
            if _stands_in(scene):  # the cut that was not done has told of it, and has paged
                steps.refuse(context, incident, label, node_order.name_of(order), gate, refused.reason)
                return Ended(refused)
            return _over(node_order.refuse(context, incident, target, label, order, gate, refused))
    wish = Wish(despite_liveness=getattr(scene.params, "despite_liveness", False))
    ready = node_order.prepare(context, incident, target, order, wish, label)
    if isinstance(ready, Done):
        return _over(ready)
    falling = (scene.held or ready.falling) if order.takes else ""
    if falling:
        held = customers.allowed(scene, falling)
        if isinstance(held, customers.Held):
            return _over(node_order.refuse(context, incident, target, label, order, held.gate, held.refused))
        if held is not None:
            return held
    scene.live.say(f"{scene.step.action}: {target}")
    done = node_order.carry_out(context, incident, ready)
    if order is NodeOrder.CUT and is_done(done.outcome):
        scene.live.on_cut(incident)
    return _over(done)


def clear(scene: Scene, label: str) -> None:
    """Take away what a former try of this step left behind, whatever becomes of this one. Raises StoreError."""
    context, incident = scene.context, scene.incident
    with context.store.read() as session:
        begun = journal.of_step(session, incident.id, scene.label)
    if not begun:
        return
    try:
        left = node_order.take_away(context, incident, scene.object, label)
    except PlatformError as error:
        left = (f"what a node helper may have left behind could not be looked for: {error}",)
    for words in left:
        scene.live.say(words)


def _over(done: Done) -> Ended:
    return Ended(done.outcome, done.proof)


def _off(scene: Scene) -> Refused | None:
    """None when the helper is configured, and on for the incident. It is not to be switched on for nothing."""
    try:
        node_helper.require_on(scene.context, scene.incident)
    except Guarded as error:
        pod = find(scene.context, scene.object)
        useless = unfit(pod, NODE_STEPS[scene.step.action]) if pod is not None else None
        if useless is not None:
            return useless
        return Refused(reason=f"{error.what}: {error.why}" if error.why else error.what, next_step=error.next_step)
    return None


def _said_no(scene: Scene) -> Refused | None:
    """A person's no to a cut of this run: it was about the pods, and not about the way in which they are cut."""
    with scene.context.store.read() as session:
        cuts = [step.id for step in playbook_of(session, scene.run).steps if step.action in CUTS]
    return next((no for step in cuts if (no := consent.denied(scene.context, scene.run, step)) is not None), None)


def _stands_in(scene: Scene) -> bool:
    """Whether an earlier step of the run was to cut this pod, and did not."""
    return any(not is_done(step.outcome) for step in _earlier(scene))


def _earlier(scene: Scene) -> list[StepRun]:
    with scene.context.store.read() as session:
        known = runs.steps(session, scene.run.id)
    return [step for step in known if step.target_uid == scene.object.uid and step.action in CUTS]


def _held(scene: Scene) -> Refused | None:
    """What an earlier cut of this run was refused for, when that was its customers: the operator has answered that."""
    with scene.context.store.read() as session:
        accepted = runs.get(session, scene.run.id).order.accept_outage
    refused = (step.outcome for step in _earlier(scene) if isinstance(step.outcome, Refused))
    return None if accepted else next((one for one in refused if one.next_step == customers.ACCEPT), None)
