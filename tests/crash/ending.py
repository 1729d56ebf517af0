"""What is left when it is over: everything that two runs of the same orders must have in common, however often one of
them died."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ringfence.actions.perform import is_proxied
from ringfence.model.access import AccessPath, PathState
from ringfence.model.evidence import Seal
from ringfence.model.incident import Incident
from ringfence.model.journal import ChangeRecord
from ringfence.model.outcome import Unknown, describe, is_done
from ringfence.model.timeline import PlanMade
from ringfence.response import token_canary
from ringfence.seal import custody
from ringfence.seal.custody import CustodyEntry
from ringfence.seal.keys import PublicKey
from ringfence.seal.verify import verify_bundle
from ringfence.store import access, approvals, commands, evidence, incidents, journal, runs, targets, timeline
from ringfence.store.database import Session, open_store
from tests.crash.driver import INCIDENT, Home
from tests.crash.witness import Witness, effects, plain, twice

_ONCE = (
    "incident.declared",
    "incident.state",
    "run.started",
    "evidence.acquired",
    "evidence.sealed",
    "approval.requested",
    "approval.decided",
    "lease.granted",
    "lease.expired",
    "target.joined",
    "determination.made",
)
"""Events that stand for one fact each: a second one of the same would be a thing that did not happen."""
_LATER = "pod/as-found"
"""One item more, in a capture that begins when the pod is cut already."""


@dataclass(frozen=True)
class Ending:
    """Comparable: names of what is generated are evened out."""

    cluster: dict[str, Any]
    effects: Counter[str]
    state: str
    runs: list[tuple[str, str, str]]
    steps: dict[str, str]
    why: dict[str, str]
    actions: set[str]
    journalled: set[str]
    approvals: list[str]
    seals: dict[str, bool]
    items: dict[str, dict[str, str]]
    """Both by what was sealed, and its how many-th seal it is: the pods of a group are sealed in no order."""
    custody: Counter[str]
    facts: Counter[str]
    rows: dict[str, str]

    def differences(self, other: Ending) -> list[str]:
        """In words; empty when nothing differs."""
        found = []
        for one in fields(self):
            mine, theirs = getattr(self, one.name), getattr(other, one.name)
            if mine != theirs:
                found.append(f"{one.name}: {_only(theirs, mine)} where the undisturbed run has {_only(mine, theirs)}")
        return found


def look(home: Home, api: Witness, key: PublicKey) -> tuple[Ending, list[str]]:
    """The ending, and what is wrong in itself: a broken chain, a change without a result, a bundle that is not ours."""
    store = open_store(f"sqlite:///{home.database}")
    try:
        with store.read() as session:
            incident = incidents.get(session, INCIDENT)
            wrong = [*journal_of(session, incident, api), *bundles(session, incident, home, key)]
            wrong += [f"a command was never carried out: {one}" for one in commands.waiting(session)]
            return _ending(session, incident, api), wrong
    finally:
        store.close()


def _ending(session: Session, incident: Incident, api: Witness) -> Ending:
    refs = {ref.uid: f"{ref.kind}/{ref.name}" for ref in targets.of_incident(session, incident.id)}
    events = [entry.event for entry in timeline.read(session, incident.id)]
    of_run = {
        (run.id, step.step, refs.get(step.target_uid, "")): step
        for run in runs.of_incident(session, incident.id)
        for step in runs.steps(session, run.id)
    }
    seals: dict[str, Seal] = {}
    for seal in evidence.seals(session, incident.id):
        name = refs.get(seal.subject_uid, "no target")
        seals[f"{name} {1 + sum(known.startswith(f'{name} ') for known in seals)}"] = seal
    entries = [CustodyEntry.from_json(json.loads(text)) for text in evidence.custody(session, incident.id)]
    custody.strand(entries)
    return Ending(
        cluster=plain(api, incident.fence),
        effects=effects(api, incident.fence),
        state=incident.state.value,
        runs=[(run.id, run.state.value, run.why) for run in runs.of_incident(session, incident.id)],
        steps={"/".join(key): "done" if is_done(one.outcome) else one.outcome.kind for key, one in of_run.items()},
        why={"/".join(key): describe(one.outcome) for key, one in of_run.items() if not is_done(one.outcome)},
        actions={step.action for step in of_run.values()},
        journalled={record.action for record in journal.of_incident(session, incident.id)},
        approvals=[one.decision.value for one in approvals.of_incident(session, incident.id)],
        seals={name: seal.complete for name, seal in seals.items()},
        items={
            name: {
                item.id: item.result.value
                for item in evidence.items(session, incident.id, evidence.capture_of(session, seal.id))
                if item.id != _LATER
            }
            for name, seal in seals.items()
        },
        custody=Counter(f"{entry.action} {entry.item}" for entry in entries if entry.item != _LATER),
        facts=Counter(
            f"{event.type} {getattr(event, 'item', '')}".strip()
            for event in events
            if event.type in _ONCE and getattr(event, "item", "") != _LATER
        ),
        rows={row.path: _said(row) for row in access.rows(session, incident.id)},
    )


def _said(row: AccessPath) -> str:
    """A token that is tried lives in memory: after a crash it is not known that it is dead, and not said either."""
    modest = row.path == token_canary.PATH and row.state is PathState.DEAD
    return PathState.UNSEEN.value if modest else row.state.value


def journal_of(session: Session, incident: Incident, api: Witness) -> list[str]:
    """What the server carried out and what the journal says must be the same."""
    records = journal.of_incident(session, incident.id)
    wrong = [f"{effect.what} took effect twice under one Audit-ID" for effect in twice(api)]
    wrong += unresolved(session, incident)
    wrong += untold(session, incident)
    done = {record.audit_id for record in records if _stands(record)}
    wrong += [f"{one.what} took effect and is not in the journal" for one in api.effects if one.audit_id not in done]
    return wrong


def _stands(record: ChangeRecord) -> bool:
    """Whether the journal admits the change. Of an archive on a node nobody can say more than that it may be there."""
    if isinstance(record.outcome, Unknown):
        return is_proxied(record.change)
    return record.outcome is not None and is_done(record.outcome)


def untold(session: Session, incident: Incident) -> list[str]:
    """Archives that were, or may have been, written before by another step, and of which a later plan says nothing."""
    asked = [record for record in journal.of_incident(session, incident.id) if is_proxied(record.change)]
    events = [entry.event for entry in timeline.read(session, incident.id)]
    caveats = {event.step: event.caveats for event in events if isinstance(event, PlanMade)}
    return [
        f"{later.step} asks for {later.change.id} again and does not say that {first.step} has"
        for first, later in itertools.combinations(asked, 2)
        if first.step != later.step and first.change.subresource == later.change.subresource and _stands(first)
        if not any(words.startswith(f"{later.change.id}: {first.step} ") for words in caveats[later.step])
    ]


def unresolved(session: Session, incident: Incident) -> list[str]:
    """Changes without a result, captures without a seal."""
    left = [
        f"{record.step}:{record.change.id} has no result"
        for record in journal.of_incident(session, incident.id)
        if record.outcome is None or (isinstance(record.outcome, Unknown) and not is_proxied(record.change))
    ]
    unsealed = evidence.unsealed_captures(session, incident.id)
    return left + [f"capture {number} holds items and was never sealed" for number in unsealed]


def bundles(session: Session, incident: Incident, home: Home, key: PublicKey) -> list[str]:
    """Seals whose bundle does not verify or is not theirs, and bundles that belong to no seal."""
    folder = (home.vault or home.folder / "vault") / incident.id
    named = {}
    wrong = []
    for seal in evidence.seals(session, incident.id):
        named[Path(seal.path)] = seal
        verified = verify_bundle(Path(seal.path), key)
        if verified.sha256 != seal.bundle_sha256 or verified.predicate.seal_id != seal.id:
            wrong.append(f"{seal.path} is not the bundle of {seal.id}")
        kept = {item.id for item in evidence.items(session, incident.id, evidence.capture_of(session, seal.id))}
        if {item.id for item in verified.items} != kept:
            wrong.append(f"{seal.path} does not hold the items of {seal.id}")
    return wrong + [f"{path} belongs to no seal" for path in sorted(folder.glob("*.tar")) if path not in named]


def _only(mine: Any, theirs: Any) -> Any:
    """What of ``mine`` is not in ``theirs``."""
    if isinstance(mine, Counter):
        return dict(mine - theirs)
    if isinstance(mine, dict):
        return {name: value for name, value in mine.items() if theirs.get(name) != value}
    return mine
