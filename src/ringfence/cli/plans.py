"""``--dry-run`` and ``--print-kubectl``: the plan as people read it, as JSON, and as commands to type."""

from __future__ import annotations

from collections.abc import Sequence

from ringfence.cli.output import Format, note, say, say_data
from ringfence.cli.text import clean
from ringfence.errors import ExitCode
from ringfence.model.objects import ObjectRef
from ringfence.model.outcome import Already, Refused
from ringfence.model.plan import Plan
from ringfence.response.preview import Preview


def show(previews: Sequence[Preview], out: Format) -> ExitCode:
    """Print each pod's plan, or why there is none."""
    if out in (Format.JSON, Format.YAML):
        bodies = [_body(one) for one in previews]
        say_data(bodies[0] if len(bodies) == 1 else {"plans": bodies}, out)
    else:
        for one in previews:
            _show(one.target, one.plan)
    return _code(previews)


def print_kubectl(previews: Sequence[Preview]) -> ExitCode:
    """Print the plans as kubectl commands, for the night when Ringfence itself is down."""
    from ringfence.cli.kubectl import commands

    for one in previews:
        match one.plan:
            case Refused():
                _refused(one.target, one.plan)
            case Already(reason=reason):
                note(f"{one.target}: nothing to do: {reason}")
            case Plan():
                say(commands(one.plan))
    return _code(previews)


def _code(previews: Sequence[Preview]) -> ExitCode:
    return ExitCode.REFUSED if any(isinstance(one.plan, Refused) for one in previews) else ExitCode.OK


def _body(one: Preview) -> dict[str, object]:
    if isinstance(one.plan, Refused):
        return {"target": one.target.to_json(), "refused": one.plan.to_json()}
    if isinstance(one.plan, Already):
        return {"target": one.target.to_json(), "already": one.plan.to_json()}
    return {"plan": one.plan.to_json(), "sha256": one.plan.sha256()}


def _refused(target: ObjectRef, refused: Refused) -> None:
    note(f"{target}: refused: {refused.reason}", f"  next: {refused.next_step}")


def _show(target: ObjectRef, plan: Plan | Already | Refused) -> None:
    if isinstance(plan, Refused):
        _refused(target, plan)
        return
    if isinstance(plan, Already):
        note(f"{target}: nothing to do: {plan.reason}")
        return
    say(clean(f"{plan.action} on {plan.target} (plan {plan.sha256()[:12]}; nothing was changed)"))
    say(clean(f"  {plan.rationale}"))
    say("requests, in this order, each accepted by the server in a dry run:")
    for number, change in enumerate(plan.changes, start=1):
        say(clean(f"  {number}. {change.verb.value} {change.ref}: {change.effect}"))
    say("customers:")
    for service in plan.impact.services:
        floor = "" if service.keeps_floor else "   BELOW THE FLOOR"
        say(
            clean(
                f"  {service.service}: {service.ready_before} ready now, {service.ready_after} after the cut, "
                f"{service.ready_with_replacement} with a replacement (floor {service.floor}){floor}"
            )
        )
        if service.prediction:
            say(clean(f"    errors: {service.prediction}"))
    if not plan.impact.services:
        say("  no Service sends the pod traffic")
    say(clean(f"replacement: {plan.impact.replacement}"))
    for budget in plan.impact.disruption_budgets:
        say(clean(f"disruption budget {budget}"))
    say("to know:")
    for caveat in plan.caveats:
        say(clean(f"  - {caveat}"))
