"""``--dry-run``: the plan as people read it, and as JSON."""

from __future__ import annotations

from ringfence.cli.output import Format, note, say, say_json
from ringfence.cli.text import clean
from ringfence.errors import ExitCode
from ringfence.model.outcome import Refused
from ringfence.model.plan import Plan


def show(plan: Plan | Refused, out: Format) -> ExitCode:
    """Print a plan, or why there is none."""
    if isinstance(plan, Refused):
        if out is Format.JSON:
            say_json({"refused": plan.to_json()})
        else:
            note(f"refused: {plan.reason}", f"  next: {plan.next_step}")
        return ExitCode.REFUSED
    if out is Format.JSON:
        say_json({"plan": plan.to_json(), "sha256": plan.sha256()})
        return ExitCode.OK
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
    if not plan.impact.services:
        say("  no Service sends the pod traffic")
    say(clean(f"replacement: {plan.impact.replacement}"))
    for budget in plan.impact.disruption_budgets:
        say(clean(f"disruption budget {budget}"))
    say("to know:")
    for caveat in plan.caveats:
        say(clean(f"  - {caveat}"))
    return ExitCode.OK
