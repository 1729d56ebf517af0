"""The one workflow that carries out playbooks. Small and deterministic: everything that reads or writes is a step.

The playbook is data, frozen by its SHA-256 when the run was started. A step is at least once: each looks into our own
tables first, so that one which a crash repeats changes nothing. A step that waits for a person ends the workflow; the
next segment of the run finds what is finished, and goes on from there.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, assert_never

from ringfence.durable.port import Scope
from ringfence.model.base import Json
from ringfence.model.catalogue import Scope as Acts
from ringfence.model.playbook import Playbook, Reaction, Step
from ringfence.playbooks import CelError, evaluate
from ringfence.response.performer import Performer

RESPOND = "respond"
_DONE = ("applied", "already")
_NO_TARGET = ""


@dataclass
class _Progress:
    """What the workflow knows while it runs; rebuilt from recorded steps when it is replayed."""

    outcomes: dict[str, str] = field(default_factory=dict)
    on_target: dict[str, dict[str, str]] = field(default_factory=dict)
    """Step → target's uid → outcome there."""
    stopped: dict[str, str] = field(default_factory=dict)
    """Targets (uid) that a step stopped, with the reason: later steps pass them over."""
    halted: str = ""

    def there(self, step: str, uid: str) -> str:
        """The step's outcome on that very target; "skipped" where it did not run on it. What is about the incident as a
        whole has one outcome for all."""
        found = self.on_target.get(step, {})
        if uid == _NO_TARGET or _NO_TARGET in found:
            return self.outcomes[step]
        return found.get(uid, "skipped")


class Interpreter:
    """The bodies that are registered with the engine."""

    def __init__(self, performer: Performer) -> None:
        self._performer = performer

    def respond(self, scope: Scope, payload: Json) -> Json:
        """One segment of a run; its id is in ``payload["run"]``. The answer says how the segment ended."""
        run = str(payload["run"])
        script = scope.step("script", lambda: self._performer.script(run))
        if "elsewhere" in script:
            return script
        playbook = Playbook.model_validate(script["playbook"])
        progress = _Progress()
        for step in playbook.steps:
            if step.phase.value not in script["phases"]:
                continue
            answers = self._step(scope, run, step, script, progress)
            special = next((answer for answer in answers if "outcome" not in answer), None)
            if special is not None:
                return self._end(scope, run, special)
            if progress.halted:
                break
        return self._end(scope, run, {"halted": progress.halted, "stopped": progress.stopped})

    def _end(self, scope: Scope, run: str, how: Json) -> Json:
        return scope.step("end", lambda: self._performer.end(run, how, workflow=scope.id))

    def _step(self, scope: Scope, run: str, step: Step, script: Json, progress: _Progress) -> Sequence[Json]:
        targets = [uid for uid in _targets(step, script) if uid not in progress.stopped]
        if not targets:
            progress.outcomes[step.id] = "skipped"
            return ()
        wanted = {uid: self._wanted(step, script, progress, uid) for uid in targets}
        chosen = [uid for uid in targets if wanted[uid] is True]
        if len(chosen) < len(targets):
            left = [uid for uid in targets if wanted[uid] is not True]
            why = next((one for one in wanted.values() if isinstance(one, str)), False)
            answer = scope.step(f"{step.id}:skip", lambda: self._performer.skip(run, step.id, left, str(why)))
            self._leave_out(step, left, why, progress, altogether=not chosen)
            if not chosen:
                return (answer,)
        if len(chosen) == 1:
            answers = [self._perform(scope, run, step, chosen[0], {})]
        else:
            answers = self._group(scope, run, step, chosen)
        self._react(step, chosen, answers, progress)
        return answers

    @staticmethod
    def _leave_out(step: Step, left: list[str], why: str | bool, progress: _Progress, *, altogether: bool) -> None:
        """``why`` is False when the condition does not hold, else the words of its error."""
        kind = "failed" if why else "skipped"
        progress.on_target.setdefault(step.id, {}).update(dict.fromkeys(left, kind))
        words = f"{step.id}: {why}" if why else f"{step.id} was skipped"
        stops = (step.on.failed if why else step.on.skipped) is Reaction.STOP
        if altogether:
            progress.outcomes[step.id] = kind
            if stops:
                progress.halted = words
        elif stops:
            progress.stopped.update(dict.fromkeys(left, words))

    def _group(self, scope: Scope, run: str, step: Step, targets: list[str]) -> list[Json]:
        """Many targets: the first puts up what all share, the others follow beside each other."""
        survey = scope.step(f"{step.id}:survey", lambda: self._performer.survey(run, step.id))
        held = survey.get("held", {})
        first = self._perform(scope, run, step, targets[0], held)
        if "outcome" not in first:
            return [first]
        scope.step(f"{step.id}:refresh", lambda: self._performer.refresh(run))
        others = scope.each(
            f"{step.id}:others",
            [functools.partial(self._on_target, scope.id, run, step, uid, held) for uid in targets[1:]],
        )
        return [first, *others]

    def _perform(self, scope: Scope, run: str, step: Step, uid: str, held: Json) -> Json:
        return scope.step(step.id, lambda: self._on_target(scope.id, run, step, uid, held))

    def _on_target(self, workflow: str, run: str, step: Step, uid: str, held: Json) -> Json:
        return self._performer.perform(run, step.id, uid, workflow=workflow, held=held.get(uid, ""))

    @staticmethod
    def _wanted(step: Step, script: Json, progress: _Progress, uid: str) -> bool | str:
        """Whether ``when`` lets the step run on this target; the words of the error when it cannot be told."""
        if step.when is None:
            return True
        variables: dict[str, Any] = {
            "incident": script["incident"],
            "target": script["target"],
            "steps": {
                name: {"outcome": outcome, "on_target": progress.there(name, uid)}
                for name, outcome in progress.outcomes.items()
            },
        }
        try:
            return evaluate(step.when, variables)
        except CelError as error:
            return str(error)

    @staticmethod
    def _react(step: Step, targets: Sequence[str], answers: Sequence[Json], progress: _Progress) -> None:
        kinds = [str(answer["outcome"]["kind"]) for answer in answers if "outcome" in answer]
        worst = next((kind for kind in kinds if kind not in _DONE), kinds[0] if kinds else "skipped")
        progress.outcomes[step.id] = worst
        for uid, answer in zip(targets, answers, strict=False):
            if "outcome" not in answer:
                continue
            kind = str(answer["outcome"]["kind"])
            progress.on_target.setdefault(step.id, {})[uid] = kind
            # A person's no ends the run, whatever the playbook says of it.
            stops = step.reaction(kind) is Reaction.STOP or (step.kind.waits and kind not in _DONE)
            if not stops:
                continue
            why = f"{step.id} was {kind}"
            if uid == _NO_TARGET:
                progress.halted = why
            else:
                progress.stopped[uid] = why


def _targets(step: Step, script: Json) -> list[str]:
    """The uids that the step acts on; one empty one for a step on the incident as a whole."""
    kinds: dict[str, str] = script["kinds"]
    match step.kind.scope:
        case Acts.INCIDENT:
            return [_NO_TARGET]
        case Acts.EACH_POD:
            return [uid for uid, kind in kinds.items() if kind == "Pod"]
        case Acts.EACH_NODE:
            return [uid for uid, kind in kinds.items() if kind == "Node"]
        case Acts.EACH_WORKLOAD:
            return [uid for uid, kind in kinds.items() if kind not in ("Pod", "Node")]
        case Acts.EACH_OBJECT:
            return [uid for uid, kind in kinds.items() if kind != "Node"]
        case _:
            assert_never(step.kind.scope)
