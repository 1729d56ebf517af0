"""The hand-over as a page: for a terminal, and as Markdown for a chat or a ticket."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta

from ringfence.model.access import Verdict
from ringfence.reporting.markdown import code, escape
from ringfence.reporting.text import duration, moment, visible, without_claim
from ringfence.response.handover import Handover, who

Section = tuple[str, list[str]]
_NOTHING = "nothing"


def text(handover: Handover, *, to: str, note: str) -> str:
    """Plain lines; whatever came from a cluster or a person is harmless in a terminal."""
    lines = [_plain(handover)(_title(handover, to)), handover.verdict.value, ""]
    for heading, entries in _sections(handover, note):
        lines += [heading.upper(), *(f"  {_plain(handover)(entry)}" for entry in entries or [_NOTHING]), ""]
    return "\n".join(lines[:-1])


def markdown(handover: Handover, *, to: str, note: str) -> str:
    """CommonMark; foreign text reads as it is and makes no markup, link or mention."""
    plain = _plain(handover)
    lines = [f"# {escape(plain(_title(handover, to)))}", "", f"**{handover.verdict.value}**", ""]
    for heading, entries in _sections(handover, note):
        written = code if heading == "Next" else escape
        lines += [f"## {heading}", "", *(f"- {written(plain(entry))}" for entry in entries or [_NOTHING]), ""]
    return "\n".join(lines[:-1])


def _title(handover: Handover, to: str) -> str:
    return f"{handover.incident.id} handed over to {to}: {handover.incident.target}"


def _plain(handover: Handover) -> Callable[[str], str]:
    """Visible text; the word that only the verdict may say is marked while it does not say it."""

    def shown(line: str) -> str:
        return visible(line) if handover.verdict is Verdict.CONTAINED else without_claim(visible(line))

    return shown


def _sections(handover: Handover, note: str) -> Iterator[Section]:
    incident = handover.incident
    yield "What happened", list(handover.story)
    yield (
        "Where it stands",
        [
            f"{incident.state}, OCSF {handover.status} ({handover.status.status_id}); {incident.determination}; "
            f"severity {incident.severity}",
            f"aware since {moment(handover.aware_at)}, {duration(handover.at - handover.aware_at)} ago",
            *([f"NetworkPolicies: {handover.enforcement}"] if handover.enforcement else []),
            *([f"the cluster could not be read: {handover.unread}"] if handover.unread else []),
        ],
    )
    yield "Open, and accepted by nobody", [f"{row.path}: {row.state}: {row.why}" for row in handover.open_rows]
    yield (
        "Accepted",
        [
            f"{row.path} by {who(incident, row.acceptance.principal)}: {row.acceptance.reason}"
            for row in handover.accepted
            if row.acceptance
        ],
    )
    yield "Runs and waits", list(_going(handover))
    yield "Evidence", list(_evidence(handover))
    yield "Deadlines", [f"{moment(one.at)} ({_away(one.at - handover.at)}): {one.what}" for one in handover.deadlines]
    if note:
        yield "Note", [note]
    yield "Next", list(handover.next_commands)


def _going(handover: Handover) -> Iterator[str]:
    for run in handover.runs:
        why = f": {run.why}" if run.why else ""
        yield f"{run.id} ({run.playbook}) is {run.state}{why}"
    for approval in handover.approvals:
        second = ", by a second person" if approval.second_person else ""
        yield f"{approval.id} waits for a yes or no{second}: {approval.reason}"


def _evidence(handover: Handover) -> Iterator[str]:
    for seal in handover.seals:
        whole = "complete" if seal.complete else f"NOT COMPLETE: {seal.why_incomplete}"
        yield f"{seal.id} of {moment(seal.sealed_at)}: {seal.collected} of {seal.items} items, {whole}; {seal.path}"


def _away(length: timedelta) -> str:
    return f"{duration(-length)} ago" if length < timedelta(0) else f"in {duration(length)}"
