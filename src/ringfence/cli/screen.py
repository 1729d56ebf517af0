"""The five-second screen: who is in, who is out, what customers feel, what is sealed, what to type next."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Iterator
from typing import assert_never

from ringfence.cli.output import say, styled
from ringfence.cli.text import clean, plural, seconds
from ringfence.cli.view import View
from ringfence.model.access import AccessPath, PathState, Verdict
from ringfence.model.outcome import Already, Applied, Failed, Problem, Refused, Skipped, Unknown, describe
from ringfence.model.proof import Level
from ringfence.model.run import RunState

_LABEL = 11
_INDENT = 42
_VERDICT_STYLE = {Verdict.CONTAINED: "green", Verdict.NOT_FULLY_CONTAINED: "yellow", Verdict.NOT_CONTAINED: "red"}


def show(view: View) -> None:
    verdict = styled(view.verdict.value, _VERDICT_STYLE[view.verdict])
    say(f"{view.incident.id} {clean(_about(view))}        {verdict}")
    for label, text in _lines(view):
        say(styled(label.ljust(_LABEL), "bold") + (" " if len(label) >= _LABEL else "") + clean(text))
    say(styled("NEXT".ljust(_LABEL), "bold") + " · ".join(view.next_commands))


def _lines(view: View) -> Iterator[tuple[str, str]]:
    by_path = {row.path: row for row in view.rows}
    if (undone := _undone(view)) and view.outcome_of != "contain":
        yield view.outcome_of.upper(), f"NOT DONE: {undone}"
    if view.outcome_of == "recover":
        yield from _gates(view)
    yield "NETWORK", _network(view, by_path)
    yield "IDENTITY", _identity(by_path)
    yield "CUSTOMERS", _customers(view)
    yield "EVIDENCE", _evidence(view)
    if view.uncopied:
        push = f"ringfence evidence push {view.incident.id}"
        yield "COPY", f"MISSING for {plural(len(view.uncopied), 'seal')}: {view.uncopied[-1]} (next: {push})"
    if view.unstamped:
        stamp = f"ringfence evidence stamp {view.incident.id}"
        yield "STAMP", f"MISSING for {plural(len(view.unstamped), 'seal')}: {view.unstamped[-1]} (next: {stamp})"
    if view.unanchored:
        yield "ANCHOR", f"MISSING: {view.unanchored[0]} (next: ringfence anchor {view.incident.id})"
    yield "SPREAD", _spread(view, by_path)
    for row in view.rows:
        if row.path in ("network.dns", "identity.cloud", "node") and row.state is PathState.ALIVE:
            yield "ALSO OPEN", f"{row.title}: {row.why}"
    for approval in view.waiting:
        yield "WAITS", f"{approval.id} until {approval.expires_at:%Y-%m-%dT%H:%M:%SZ}: {approval.reason}"
    for run in view.runs:
        if run.state in (RunState.QUEUED, RunState.RUNNING):
            yield "RUNS", f"{run.id} ({run.playbook}) is {run.state}; when nobody carries it on: resume"
    if view.lease is not None and not view.incident.state.over:
        words = "RAN OUT" if view.lease.expired else "until"
        yield "LEASE", f"{words} {view.lease.until:%Y-%m-%dT%H:%M:%SZ}, for somebody to look again; nothing reverts"
    if view.unpaged:
        newest = view.unpaged[-1]
        yield "PAGES", f"{len(view.unpaged)} not delivered: {newest.title} ({newest.problem})"
    if view.unread:
        yield "AS OF", f"{_as_of(view)}: the cluster cannot be read now ({view.unread})"


def _gates(view: View) -> Iterator[tuple[str, str]]:
    """Each gate of a recovery with what shows it."""
    for step in view.steps:
        words = describe(step.outcome)
        if step.proof is not None:
            words = f"{step.proof.claim} ({step.proof.level})" if isinstance(step.outcome, Applied) else words
        yield f"  {step.step}", words


def _about(view: View) -> str:
    target = view.incident.target
    name = f"{target.namespace}/{target.name}" if target.namespace else target.name
    others = len(view.targets) - 1
    return f"{name} and {plural(others, 'more object')}" if others > 0 else name


def _network(view: View, by_path: dict[str, AccessPath]) -> str:
    rows = [by_path[path] for path in ("network.egress", "network.ingress") if path in by_path]
    if (undone := _undone(view)) and view.outcome_of == "contain":
        return f"NOT CUT: {undone}"
    if not rows:
        return "not known"
    if alive := [row for row in rows if row.state is PathState.ALIVE]:
        return "STILL OPEN: " + "; ".join(f"{row.title.lower()}: {row.why}" for row in alive)
    if all(row.state is PathState.DEAD for row in rows):
        new = f"new traffic dead: {rows[0].level.value}"
    else:
        weakest = min((row.level for row in rows if row.state is not PathState.DEAD), key=lambda level: level.rank)
        took = f" in {seconds(view.seconds_to_cut)}" if view.seconds_to_cut is not None else ""
        seen = f" ({view.enforcement_words})" if view.enforcement_words else ""
        proven = "" if weakest is Level.PROVEN else f", NOT YET PROVEN{seen}"
        new = f"new traffic cut{took}: {weakest.value}{proven}"
    return f"{new}   {_old_flows(by_path.get('network.established'))}"


def _undone(view: View) -> str:
    """Why what was asked for was not done; empty when it was, or when nothing was asked for."""
    match view.outcome:
        case None | Applied() | Already():
            return ""
        case Refused(next_step=next_step) | Failed(problem=Problem(next_step=next_step)) if next_step:
            return f"{describe(view.outcome)} (next: {next_step})"
        case Refused() | Failed() | Unknown() | Skipped():
            return describe(view.outcome)
        case _:
            assert_never(view.outcome)


def _old_flows(row: AccessPath | None) -> str:
    if row is None:
        return "old flows not known"
    match row.state:
        case PathState.DEAD:
            return f"old flows dead: {row.level.value}"
        case PathState.ACCEPTED:
            return "old flows MAY LIVE, accepted"
        case PathState.ALIVE | PathState.UNSEEN:
            return "old flows MAY LIVE"


def _identity(by_path: dict[str, AccessPath]) -> str:
    words = []
    for path in ("identity.kubernetes", "identity.cloud"):
        row = by_path.get(path)
        if row is None:
            continue
        what = "Kubernetes token" if path == "identity.kubernetes" else "cloud credentials"
        match row.state:
            case PathState.ALIVE:
                words.append(f"STILL IN: {what}, until {row.until}")
            case PathState.UNSEEN:
                words.append(f"{what} not shown dead: {row.why}")
            case PathState.DEAD:
                words.append(f"{what} dead: {row.level.value}")
            case PathState.ACCEPTED:
                words.append(f"{what} open, accepted")
    return "; ".join(words) or "not known"


def _customers(view: View) -> str:
    if not view.customers_known:
        return "not known"
    if not view.customers:
        return "no Service sent the pod traffic"
    words = []
    for customer in view.customers:
        of = f"/{customer.desired}" if customer.desired is not None else ""
        if customer.replacements:
            extra = f" ({plural(customer.replacements, 'replacement')})"
        elif customer.desired is not None and customer.ready < customer.desired:
            extra = " (replacement not ready yet)"
        else:
            extra = ""
        words.append(f"{customer.service} {customer.ready}{of} serving{extra}")
    return "; ".join(words)


def _evidence(view: View) -> str:
    if view.evidence_problem:
        return f"NOT SEALED: {view.evidence_problem}"
    if not view.seals:
        return "nothing sealed"
    pods = {ref.uid for ref in view.targets if ref.kind == "Pod"}
    # An account that was recreated has a seal as well; the screen speaks of the pods.
    of_pods = [one for one in view.seals if one.subject_uid in pods] or list(view.seals)
    seal = of_pods[-1]
    words = [f"{plural(seal.collected, 'item')} sealed"]
    if len(pods) > 1:
        newest = {one.subject_uid: one for one in of_pods}
        words = [f"{len(newest)} of {len(pods)} pods sealed, {sum(one.collected for one in newest.values())} items"]
        seal = next((one for one in newest.values() if not one.complete), seal)
    if not seal.complete:
        words.append(f"INCOMPLETE: {seal.why_incomplete}")
    if view.not_taken:
        words.append(f"{' and '.join(view.not_taken)} not taken")
    if view.failed:
        words.append(f"could not be had: {', '.join(view.failed)}")
    return "; ".join(words)


def _spread(view: View, by_path: dict[str, AccessPath]) -> str:
    words = []
    for path, name, number in (
        ("siblings.image", "same image", view.same_image),
        ("siblings.account", "same account", view.same_account),
    ):
        row = by_path.get(path)
        if row is None:
            continue
        state = "open" if row.is_open else row.state.value
        words.append(f"{name} {number if number is not None else 'not counted'}: {state}")
    replacement = by_path.get("workload.replacement")
    if replacement is not None and replacement.is_open:
        words.append("replacements have the same hole")
    return ", ".join(words) or "not known"


def _as_of(view: View) -> str:
    return min((f"{row.as_of:%Y-%m-%dT%H:%M:%SZ}" for row in view.rows), default="never")


def show_runs(view: View) -> None:
    """Every run of the incident, and what each step of the command's own run came to on each target."""
    names = {ref.uid: f"{ref.kind.lower()}/{ref.name}" for ref in view.targets}
    for run in view.runs:
        why = f": {run.why}" if run.why else ""
        say(clean(f"{run.id}  {run.playbook} {','.join(run.order.phases)}  {run.state}{why}"))
    for step in view.steps:
        on = f" {names.get(step.target_uid, step.target_uid)}" if step.target_uid else ""
        say(clean(f"  {step.step}{on}: {describe(step.outcome)}"))


def show_rows(rows: tuple[AccessPath, ...]) -> None:
    """The whole statement: each row with its state, level and reason."""
    for row in rows:
        style = {PathState.ALIVE: "red", PathState.UNSEEN: "yellow", PathState.DEAD: "green"}.get(row.state, "dim")
        state = styled(row.state.value.upper().ljust(9), style)
        first, *more = _wrapped(row.why)
        say(f"{state} {row.level.value.ljust(9)} {clean(row.path).ljust(21)} {first}")
        if row.is_open and row.until:
            more += _wrapped(f"until: {row.until}")
        if row.is_open and row.retest:
            more += _wrapped(f"would show more: {row.retest}")
        if row.acceptance is not None:
            more += _wrapped(f"accepted by {row.acceptance.principal}: {row.acceptance.reason}")
        say(*(" " * _INDENT + line for line in more))


def _wrapped(text: str) -> list[str]:
    """Clean text in lines that fit the terminal; one line where there is none, so that it can be searched."""
    line = clean(text)
    if not sys.stdout.isatty():
        return [line]
    return textwrap.wrap(line, max(40, shutil.get_terminal_size().columns - _INDENT)) or [""]
