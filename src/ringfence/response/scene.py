"""What a stage works with, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass

from ringfence.model.base import Noun
from ringfence.model.incident import Incident
from ringfence.model.objects import ObjectRef
from ringfence.model.outcome import Outcome
from ringfence.model.playbook import Step
from ringfence.model.proof import Proof
from ringfence.model.run import Approval, Run
from ringfence.response.context import Context
from ringfence.response.live import Live


@dataclass(frozen=True)
class Scene:
    """One step of a run on one target (None: on the incident as a whole). ``held`` says why the survey of the group
    keeps this target from being cut without consent; empty when it does not."""

    context: Context
    live: Live
    incident: Incident
    run: Run
    step: Step
    params: Noun
    target: ObjectRef | None = None
    held: str = ""

    @property
    def label(self) -> str:
        """The step's name in the journal: ``cut/2`` (the run's number), ``cut/2/3`` on the third target of several.

        The same in every segment and after every crash: the journal and the Audit-IDs hang on it.
        """
        name = f"{self.step.id}/{self.run.number}"
        if self.target is None or len(self.run.targets) == 1:
            return name
        return f"{name}/{1 + [target.uid for target in self.run.targets].index(self.target.uid)}"

    @property
    def object(self) -> ObjectRef:
        """The target of a stage that has one."""
        assert self.target is not None
        return self.target


@dataclass(frozen=True)
class Ended:
    """The step is over."""

    outcome: Outcome
    proof: Proof | None = None


@dataclass(frozen=True)
class Paused:
    """The step waits for a person: the run ends here and goes on with the decision."""

    approval: Approval


Answer = Ended | Paused
