"""A playbook: a runbook as data. It says which steps run in which order, and nothing about how one is done."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any

from pydantic import AfterValidator, Field, JsonValue, StringConstraints, model_validator

from ringfence.model.base import Noun
from ringfence.model.catalogue import CATALOGUE, StepType, parse_params
from ringfence.model.incident import Severity

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


def _label(value: str) -> str:
    if not _LABEL.fullmatch(value):
        raise ValueError("use lower-case letters, digits and inner dashes, at most 63 (a DNS-1123 label)")
    return value


def invisible(value: str) -> str:
    """The first character, as ``U+202E``, that a reader cannot see or a terminal obeys; empty when there is none."""
    for character in value:
        if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp") and character not in "\n\t":
            return f"U+{ord(character):04X}"
    return ""


def _visible(value: str) -> str:
    if found := invisible(value):
        raise ValueError(f"take the invisible character {found} out")
    return value


def _one_line(value: str) -> str:
    if not value.strip():
        raise ValueError("say something")
    if "\n" in value or "\t" in value:
        raise ValueError("keep it on one line, without tabs")
    return _visible(value)


Label = Annotated[str, AfterValidator(_label)]
"""A DNS-1123 label."""
Line = Annotated[str, StringConstraints(min_length=1, max_length=200), AfterValidator(_one_line)]
"""One line for people: no control characters, no marks that turn the direction of writing."""
Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=4000), AfterValidator(_visible)]
"""Lines for people."""


class TargetKind(StrEnum):
    """What a playbook can be started on."""

    POD = "Pod"
    DEPLOYMENT = "Deployment"
    STATEFUL_SET = "StatefulSet"
    DAEMON_SET = "DaemonSet"
    REPLICA_SET = "ReplicaSet"
    JOB = "Job"
    CRON_JOB = "CronJob"
    SERVICE_ACCOUNT = "ServiceAccount"
    IMAGE = "Image"


class Phase(StrEnum):
    """The part of the response that a step belongs to, in their order; NIST SP 800-61's words."""

    CONTAINING = "containing"
    ERADICATING = "eradicating"
    RECOVERING = "recovering"

    @property
    def rank(self) -> int:
        return tuple(Phase).index(self)


class Reaction(StrEnum):
    """What the run does after a step that was not done."""

    CONTINUE = "continue"
    STOP = "stop"


class Reactions(Noun):
    """A step's ``on``. Whatever is not said stops the run, but a step that was left out on purpose."""

    refused: Reaction = Reaction.STOP
    failed: Reaction = Reaction.STOP
    skipped: Reaction = Reaction.CONTINUE


class Step(Noun):
    """One step. ``params`` is the file's ``with``, defaults filled in; ``when`` a CEL expression, None: always."""

    id: Label
    title: Line
    action: str
    phase: Phase
    params: dict[str, JsonValue] = Field(default_factory=dict)
    when: str | None = None
    on: Reactions = Reactions()

    @model_validator(mode="before")
    @classmethod
    def _in_the_catalogue(cls, given: Any) -> Any:
        if not isinstance(given, Mapping) or not isinstance(given.get("action"), str):
            return given  # what is wrong with that, the fields say
        return {**given, "params": parse_params(given["action"], given.get("params") or {}).to_json()}

    @property
    def kind(self) -> StepType:
        return CATALOGUE[self.action]

    def reaction(self, kind: str) -> Reaction:
        """What the run does after an outcome of this ``kind``. A write that may have happened counts as failed.

        Raises ValueError for a word that is no outcome.
        """
        match kind:
            case "applied" | "already":
                return Reaction.CONTINUE
            case "refused":
                return self.on.refused
            case "failed" | "unknown":
                return self.on.failed
            case "skipped":
                return self.on.skipped
            case _:
                raise ValueError(f"{kind!r} is no outcome")


class IncidentTemplate(Noun):
    """What kind of incident is declared when the playbook starts on a target that belongs to none."""

    type: Label
    severity: Severity


class Playbook(Noun):
    """A playbook. ``name`` is that of its file; ``targets`` the kinds of object that it may be started on."""

    name: Label
    title: Line
    description: Text
    incident: IncidentTemplate
    targets: Annotated[tuple[TargetKind, ...], Field(min_length=1)]
    steps: Annotated[tuple[Step, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _ids_are_unique(self) -> Playbook:
        ids = [step.id for step in self.steps]
        double = sorted({name for name in ids if ids.count(name) > 1})
        if double:
            raise ValueError(f"two steps are called {', '.join(double)}")
        return self

    @property
    def phases(self) -> tuple[Phase, ...]:
        """The phases that have a step, in their order."""
        return tuple(phase for phase in Phase if any(step.phase is phase for step in self.steps))

    def step(self, id: str) -> Step:  # noqa: A002
        """The step of that id. Raises KeyError."""
        for step in self.steps:
            if step.id == id:
                return step
        raise KeyError(id)
