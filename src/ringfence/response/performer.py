"""The steps of the interpreter: each reads our tables, does one thing, and writes down that it is done.

Safe to repeat: a finished step is answered from its row, an unfinished one is begun again over the journal, where live
state decides. A run that another executor has taken meanwhile is left alone.
"""

from __future__ import annotations

from collections.abc import Sequence

from ringfence.actions.tokens import DeleteTokens
from ringfence.errors import PlatformError, StoreError
from ringfence.model.base import Json
from ringfence.model.catalogue import parse_params
from ringfence.model.incident import Incident
from ringfence.model.node_helper import NODE_STEPS
from ringfence.model.outcome import Failed, Outcome, Problem, Refused, Skipped
from ringfence.model.playbook import Playbook
from ringfence.model.run import Run, RunState
from ringfence.response import steps
from ringfence.response.context import Context, now
from ringfence.response.live import Live
from ringfence.response.playbook_of import playbook_of
from ringfence.response.scene import Answer, Ended, Paused, Scene
from ringfence.response.stages import cut, node
from ringfence.response.stages.cut import finished
from ringfence.response.stages.table import STAGES
from ringfence.store import incidents, runs
from ringfence.store.database import Session


class Performer:
    """Performs steps for one executor, as the principal of its connection."""

    def __init__(self, context: Context, live: Live, executor: str) -> None:
        self.context = context
        self.live = live
        self.executor = executor
        self.broken: dict[str, StoreError] = {}
        """Why a run could not go on: the engine keeps the words of an error, and not what kind it was."""
        self._playbooks: dict[str, Playbook] = {}
        self._incidents: dict[str, tuple[str, Incident]] = {}

    def script(self, run_id: str) -> Json:
        """What the workflow needs to know of the run, once: the playbook, the targets, the phases."""
        with self.context.store.read() as session:
            run = runs.get(session, run_id)
            incident = incidents.get(session, run.incident)
            playbook = self._playbook(session, run)
        if incident.cluster != self.context.cluster_id:
            return {"elsewhere": incident.cluster}
        # What earlier runs left without a result is settled first: by live state, as far as that can be read.
        steps.reconcile(self.context, incident)
        return {
            "playbook": playbook.to_json(),
            "phases": list(run.order.phases),
            "kinds": {target.uid: target.kind for target in run.targets},
            "incident": {
                "id": incident.id,
                "type": incident.type,
                "severity": incident.severity.value,
                "state": incident.state.value,
                "title": incident.title,
            },
            "target": {
                "kind": incident.target.kind,
                "namespace": incident.target.namespace,
                "name": incident.target.name,
            },
        }

    def perform(self, run_id: str, step_id: str, uid: str, *, workflow: str, held: str) -> Json:
        """One step on one target (empty: the incident). The answer has ``outcome``, or says why the run ends here.

        ``workflow`` is the run's segment that asks.
        """
        with self.context.store.read() as session:
            run = runs.get(session, run_id)
            incident = self._incident(session, run, step_id)
            done = runs.step_of(session, run_id, step_id, uid)
            step = self._playbook(session, run).step(step_id)
        if done is not None:
            return {"outcome": done.outcome.to_json()}
        if not self._is_ours(run, workflow):
            return {"superseded": run.owner}
        self.live.looked = None  # what was seen before this step may not be so after it
        scene = Scene(
            context=self.context,
            live=self.live,
            incident=incident,
            run=run,
            step=step,
            params=parse_params(step.action, step.params),
            target=next((target for target in run.targets if target.uid == uid), None),
            held=held,
        )
        if run.cancel_requested_by:
            if step.action in NODE_STEPS:
                node.clear(scene, scene.label)
            return {"cancelled": run.cancel_requested_by}
        try:
            answer = _disabled(scene) or _staged(scene)
            match answer:
                case Paused(approval=approval):
                    return {"waits": approval.id}
                case Ended(outcome=outcome, proof=proof):
                    with self.context.store.write() as session:
                        runs.finish_step(
                            session, run_id, step_id, uid, action=step.action, outcome=outcome, proof=proof, now=now()
                        )
                    return {"outcome": outcome.to_json()}
        except StoreError as error:
            self.broken[run_id] = error
            raise

    def skip(self, run_id: str, step_id: str, targets: Sequence[str], why: str) -> Json:
        """``when`` said no, or could not be told: written down, never a success."""
        outcome: Outcome = (
            Skipped(reason="its condition does not hold")
            if why == "False"
            else Failed(problem=Problem(code="condition", what=f"the condition of {step_id} cannot be told", why=why))
        )
        with self.context.store.write() as session:
            run = runs.get(session, run_id)
            step = self._playbook(session, run).step(step_id)
            for uid in targets:
                runs.finish_step(
                    session, run_id, step_id, uid, action=step.action, outcome=outcome, proof=None, now=now()
                )
        return {"outcome": outcome.to_json()}

    def survey(self, run_id: str, step_id: str) -> Json:
        """Which pods of a group are not cut without consent, because customers would fall below the floor."""
        with self.context.store.read() as session:
            run = runs.get(session, run_id)
            step = self._playbook(session, run).step(step_id)
        if step.action not in node.CUTS:
            return {}
        try:
            return {"held": dict(cut.survey(self.context, self.live, run).held)}
        except PlatformError as error:
            # What customers would feel is not known: nobody is cut without being asked for.
            return {"held": {target.uid: f"what customers would feel is not known: {error}" for target in run.targets}}

    def refresh(self, run_id: str) -> Json:
        self._incidents.pop(run_id, None)  # the first pod's cut has moved it on
        with self.context.store.read() as session:
            cut.refresh(self.live, runs.get(session, run_id))
        return {}

    def end(self, run_id: str, how: Json, *, workflow: str) -> Json:
        """Write down how the segment ended."""
        state, why = _ending(how)
        if state is None:
            return how
        with self.context.store.write() as session:
            run = runs.get(session, run_id)
            if self._is_ours(run, workflow):
                runs.end(session, run, state, why=why, actor=self.context.actor, now=now())
        self.live.forget(run_id)
        self._playbooks.pop(run_id, None)
        self._incidents.pop(run_id, None)
        return how

    def _incident(self, session: Session, run: Run, step: str) -> Incident:
        """Read once for a step, and not for each of its targets."""
        known = self._incidents.get(run.id)
        if known is None or known[0] != step:
            known = self._incidents[run.id] = (step, incidents.get(session, run.incident))
        return known[1]

    def _playbook(self, session: Session, run: Run) -> Playbook:
        """Frozen with the run: read and held against its SHA-256 once, not for every target of every step."""
        if (known := self._playbooks.get(run.id)) is None:
            known = self._playbooks[run.id] = playbook_of(session, run)
        return known

    def _is_ours(self, run: Run, workflow: str) -> bool:
        """Whether this executor carries the run on, and in this segment.

        One that a crash left right before its record may be carried on beside the next one, after the decision that it
        waited for: it must not put the run back to where it was.
        """
        return run.owner == self.executor and run.workflow_id == workflow and run.state is RunState.RUNNING


def _disabled(scene: Scene) -> Answer | None:
    """Refused when the configuration does not enable the action: it has no rights here either."""
    action = scene.step.action
    if action not in scene.context.policy.disabled:
        return None
    refused = Refused(reason=f"the action {action} is not enabled", next_step=_enabling(action))
    steps.refuse(scene.context, scene.incident, scene.label, action, "enabled", refused.reason)
    return finished(scene, action, refused)


def _enabling(action: str) -> str:
    if action == DeleteTokens.name:
        return "identity.legacy_tokens in the configuration, and the right to list Secrets: ringfence rbac"
    return "actions.enabled in the configuration"


def _staged(scene: Scene) -> Answer:
    try:
        return STAGES[scene.step.action](scene)
    except PlatformError as error:
        return Ended(Failed(problem=Problem.of(error)))


def _ending(how: Json) -> tuple[RunState | None, str]:
    if "superseded" in how or "elsewhere" in how:
        return None, ""
    if "waits" in how:
        return RunState.WAITING, str(how["waits"])
    if "cancelled" in how:
        return RunState.CANCELLED, f"cancelled by {how['cancelled']}"
    if how.get("halted"):
        return RunState.FAILED, str(how["halted"])
    if stopped := how.get("stopped"):
        words = sorted(set(stopped.values()))
        return RunState.FAILED, f"{len(stopped)} targets: {'; '.join(words)}" if len(stopped) > 1 else words[0]
    return RunState.DONE, ""
