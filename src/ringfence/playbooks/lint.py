"""What is wrong with a playbook although each step is right: the order of steps, and conditions that decide nothing.

The engine's gates hold whatever a playbook says. The linter says it in daylight, before the night when it matters.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from ringfence.model import step_names
from ringfence.model.catalogue import Scope
from ringfence.model.incident import Severity, State
from ringfence.model.playbook import Phase, Playbook, Reaction, Step
from ringfence.playbooks import cel, tree
from ringfence.playbooks.errors import CelError, Mistake, PlaybookError

CUT = "network.quarantine"
CUT_IDENTITY = "identity.cut"
SEAL = "evidence.seal"
MOVE = "incident.move"
_OUTCOMES = ("applied", "already", "skipped", "refused", "failed", "unknown")
_MOST_CASES = 2000


class Gravity(StrEnum):
    """An ``error`` keeps the playbook from being started."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True)
class Finding:
    """One thing about one step: the ``rule`` that found it, what, and what to do.

    ``line`` is where the step begins, counted from 1; 0 when the file was not given.
    """

    severity: Gravity
    rule: str
    step: str
    what: str
    next_step: str
    line: int = 0


Rule = Callable[[Playbook], Iterator[Finding]]


def lint(playbook: Playbook, content: bytes = b"") -> tuple[Finding, ...]:
    """Every finding, in the order of the steps. ``content`` is the file that the playbook was loaded from."""
    order = {step.id: place for place, step in enumerate(playbook.steps)}
    found = itertools.chain.from_iterable(rule(playbook) for rule in _RULES)
    findings = tuple(sorted(found, key=lambda finding: order[finding.step]))
    if not findings or not content:
        return findings
    file = tree.read(content)
    return tuple(replace(one, line=file.line_of(("spec", "steps", order[one.step]))) for one in findings)


def require_clean(playbook: Playbook, content: bytes, source: str) -> None:
    """Raise PlaybookError when the linter has an error. ``content`` is the file, which ``source`` names."""
    errors = [
        Mistake(finding.line, f"step {finding.step}: {finding.what}", finding.next_step)
        for finding in lint(playbook, content)
        if finding.severity is Gravity.ERROR
    ]
    if errors:
        raise PlaybookError(source, errors)


def _error(rule: str, step: Step, what: str, next_step: str) -> Finding:
    return Finding(Gravity.ERROR, rule, step.id, what, next_step)


def _warning(rule: str, step: Step, what: str, next_step: str) -> Finding:
    return Finding(Gravity.WARNING, rule, step.id, what, next_step)


def _phases(playbook: Playbook) -> Iterator[Finding]:
    for before, step in itertools.pairwise(playbook.steps):
        if step.phase.rank < before.phase.rank:
            yield _error(
                "phase-order",
                step,
                f"its phase is {step.phase} after a step that is {before.phase}",
                "put it before, or into a later phase",
            )


def _names(playbook: Playbook) -> Iterator[Finding]:
    for step in playbook.steps:
        if step_names.is_taken(step.id):
            yield _error(
                "taken-name",
                step,
                f"steps of commands are called {step.id}: both would be in one journal",
                "give it another id",
            )


def _seal_first(playbook: Playbook) -> Iterator[Finding]:
    for place, step in enumerate(playbook.steps):
        if step.kind.destructive and not any(_surely(one, SEAL, step) for one in playbook.steps[:place]):
            yield _error(
                "seal-first",
                step,
                f"{step.action} destroys what no earlier step has sealed",
                f"put {SEAL} before it, with no `when` or the same",
            )


def _cut_before_destroying(playbook: Playbook) -> Iterator[Finding]:
    """In the recovering phase the cut stands from an earlier run, or was lifted because the attacker is out."""
    for place, step in enumerate(playbook.steps):
        if (
            step.kind.destructive
            and step.phase is not Phase.RECOVERING
            and not any(_surely(one, _cut_of(step), step) for one in playbook.steps[:place])
        ):
            yield _error(
                "cut-first",
                step,
                f"{step.action} destroys while nothing is cut: the attacker sees it coming",
                f"put {_cut_of(step)} before it, with no `when` or the same",
            )


def _cut_of(step: Step) -> str:
    """What has to be cut before the step destroys: an identity is cut by itself."""
    return CUT_IDENTITY if step.action.startswith("identity.") else CUT


def _cut_waits_for_nobody(playbook: Playbook) -> Iterator[Finding]:
    cut = next((place for place, step in enumerate(playbook.steps) if step.action == CUT), 0)
    for step in playbook.steps[:cut]:
        if step.kind.waits:
            yield _error(
                "cut-first", step, "the cut waits here for a person", f"move it behind {playbook.steps[cut].id}"
            )
        elif step.action == SEAL:
            yield _warning(
                "cut-first",
                step,
                "the cut waits here for the evidence, which is opened before the cut anyway",
                f"move it behind {playbook.steps[cut].id}",
            )


def _closed_is_the_end(playbook: Playbook) -> Iterator[Finding]:
    closed = ""
    for step in playbook.steps:
        if closed:
            yield _error("closed-is-the-end", step, f"the incident is closed by {closed} before", "move it before that")
        elif step.action == MOVE and step.params["state"] == State.CLOSED:
            closed = step.id


def _moves(playbook: Playbook) -> Iterator[Finding]:
    for step in playbook.steps:
        if step.action == MOVE and not any(state.may_become(State(str(step.params["state"]))) for state in State):
            yield _error("move", step, f"no incident can become {step.params['state']}", "name a later state")


def _seal_is_awaited(playbook: Playbook) -> Iterator[Finding]:
    """Where a person decides in between, they see what is not sealed, and can have it collected again first.

    Not in the recovering phase, where pods that are gone cannot be sealed and a release goes on without them.
    """
    for place, step in enumerate(playbook.steps):
        if step.action != SEAL or step.phase is Phase.RECOVERING or step.on.failed is Reaction.STOP:
            continue
        later = itertools.takewhile(lambda one: not one.kind.waits, playbook.steps[place + 1 :])
        if any(one.kind.destructive for one in later):
            yield _warning(
                "seal-first",
                step,
                "a later step destroys although this seal may have failed, and the evidence gate will refuse it",
                "leave `failed: continue` out, or let a person decide in between",
            )


def _conditions(playbook: Playbook) -> Iterator[Finding]:
    for place, step in enumerate(playbook.steps):
        if step.when is None:
            continue
        try:
            expression = cel.compile_expression(step.when, f"step {step.id}")
            answers = _answers(expression, playbook, playbook.steps[:place])
        except CelError as error:
            yield _error("condition", step, f"its `when` cannot be told: {error.why}", error.next_step)
            continue
        if answers == {False}:
            yield _error("condition", step, "its `when` never holds", "correct it, or take the step out")
        elif answers == {True}:
            yield _warning("condition", step, "its `when` always holds", "correct it, or take the `when` out")


def _answers(expression: cel.Expression, playbook: Playbook, earlier: tuple[Step, ...]) -> set[bool]:
    """Every answer that the condition can give; empty when it asks for what can be any text, or has too many cases."""
    domains: dict[tuple[str, ...], tuple[str, ...]] = {
        ("incident", "severity"): tuple(Severity),
        ("incident", "state"): tuple(State),
        ("target", "kind"): tuple(playbook.targets),
        **{("steps", step.id, member): _OUTCOMES for step in earlier for member in cel.OF_STEP},
    }
    asked = sorted(expression.paths)
    if any(path not in domains for path in asked) or math.prod(len(domains[path]) for path in asked) > _MOST_CASES:
        return set()
    return {
        cel.evaluate(expression, _variables(asked, case))
        for case in itertools.product(*(domains[path] for path in asked))
    }


def _variables(asked: list[tuple[str, ...]], case: tuple[str, ...]) -> dict[str, Any]:
    values: dict[str, Any] = {name: {} for name in cel.VARIABLES}
    for path, value in zip(asked, case, strict=True):
        if path[0] == "steps":
            values["steps"].setdefault(path[1], {})[path[2]] = str(value)
        else:
            values[path[0]][path[1]] = str(value)
    return values


def _surely(earlier: Step, action: str, step: Step) -> bool:
    """Whether ``earlier`` does ``action`` to what ``step`` acts on, whenever ``step`` runs.

    The pods of a workload are cut and sealed one by one; nothing does that for what else is on a node.
    """
    covered = earlier.kind.scope is step.kind.scope or (earlier.kind.scope, step.kind.scope) == (
        Scope.EACH_POD,
        Scope.EACH_WORKLOAD,
    )
    return earlier.action == action and earlier.when in (None, step.when) and covered


_RULES: tuple[Rule, ...] = (
    _phases,
    _names,
    _seal_first,
    _seal_is_awaited,
    _cut_before_destroying,
    _cut_waits_for_nobody,
    _closed_is_the_end,
    _moves,
    _conditions,
)
