"""The timeline against a real API server's audit log, by the program and with the rendered rights alone.

What Ringfence did is all there; what was done with its identity beside it is named; so is a forged copy of the log, and
a forged store whose chain was made anew.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from lab import programs
from lab.kube import wait_until
from lab.layout import Lab
from ringfence.store import tables
from ringfence.store.database import open_store
from ringfence.store.timeline import GENESIS, chain_hash
from tests.lab.program import Json, Responder, Ringfence
from tests.lab.space import Space

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]
_TAIL = 24 << 20
"""Bytes of the log that a copy holds: some minutes at the least."""


@pytest.fixture
def ringfence(space: Space, tmp_path: Path, responders: tuple[Responder, Responder]) -> Ringfence:
    return Ringfence(space.lab, tmp_path, responders[0].kubeconfig)


def copied(lab: Lab, to: Path, forge: Callable[[Json], Json | None]) -> Path:
    """The end of the log, each line as ``forge`` gives it back; None leaves it out."""
    with lab.audit_log.open("rb") as source, to.open("w") as out:
        source.seek(max(0, lab.audit_log.stat().st_size - _TAIL))
        source.readline()
        for line in source:
            if line.endswith(b"\n") and (event := forge(json.loads(line))) is not None:
                out.write(json.dumps(event) + "\n")
    return to


def kubectl(lab: Lab, who: Responder, *arguments: str) -> None:
    command = [str(programs.path("kubectl")), f"--kubeconfig={who.kubeconfig}", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_log_and_timeline_agree_until_somebody_forges_or_acts_in_our_name(
    space: Space, ringfence: Ringfence, responders: tuple[Responder, Responder], tmp_path: Path
) -> None:
    lab, who = space.lab, responders[0]
    space.workload("shop", 2)
    suspect, other = space.wait_pods(2, app="shop")
    incident = ringfence.json("contain", f"pod/{suspect}", "-n", space.name, "--reason", "odd")["incident"]["id"]
    released = ringfence.json("release", incident)
    assert released["incident"]["state"] == "closed"

    # Everything that was claimed is there, in the words of the API server, and nothing beside it.
    def verified(log: Path, code: int, of: str = incident, by: Ringfence = ringfence) -> Json:
        found: Json = by.json("evidence", "verify", of, "--audit-log", str(log), code=code)["audit_log"]
        return found

    whole = verified(lab.audit_log, 0)
    assert whole["findings"] == []
    assert whole["matched"] + whole["not_sent"] == whole["claims"]
    assert whole["matched"] >= 4, "the cut and its way back"
    assert whole["dry_runs"] > 0, "plans were tried with dry runs, and these are no changes"
    assert whole["identities"] == [who.user]

    # The log must reach beyond the last claim: what is not covered cannot be missing.
    ids = [event["audit_id"] for event in ringfence.events(incident, "change.intended")]
    wait_until(
        lambda: verified(lab.audit_log, 0)["covered"][-1]["to"] > _later(ringfence, incident), 60, "the log to go on"
    )
    matched = copied(lab, tmp_path / "copy.log", lambda event: event)
    assert verified(matched, 0)["findings"] == []

    def named(log: Path, code: int = 20) -> list[tuple[str, str]]:
        return [(one["kind"], one["audit_id"]) for one in verified(log, code)["findings"]]

    def without(event: Json) -> Json | None:
        return None if event["auditID"] == ids[0] else event

    def elsewhere(event: Json) -> Json | None:
        moved = {**event, "objectRef": {**event.get("objectRef", {}), "name": "another"}}
        return moved if event["auditID"] == ids[0] else event

    def by_another(event: Json) -> Json | None:
        return {**event, "user": {"username": "eve"}} if event["auditID"] == ids[0] else event

    def refused(event: Json) -> Json | None:
        return {**event, "responseStatus": {"code": 403}} if event["auditID"] == ids[0] else event

    assert named(copied(lab, tmp_path / "without.log", without)) == [("missing", ids[0])]
    for forge in (elsewhere, by_another, refused):
        assert named(copied(lab, tmp_path / f"{forge.__name__}.log", forge)) == [("different", ids[0])], forge

    # A log that begins too late says nothing against the timeline.
    declared = next(iter(ringfence.events(incident, "change.result")))["answered_at"]
    late = copied(lab, tmp_path / "late.log", lambda event: event if event["stageTimestamp"] > declared else None)
    assert {kind for kind, _ in named(late, 21)} == {"unverifiable"}

    # A store without the event, its chain made anew: it verifies by itself, and the log has what it hides.
    forged = Ringfence(lab, tmp_path / "forged", who.kubeconfig)
    forged.home.mkdir()
    forged.settings["vault"] = ringfence.settings["vault"]
    forged.settings["signing"] = ringfence.settings["signing"]
    shutil.copy(ringfence.home / "ringfence.db", forged.home)
    _forget(forged, incident, ids[0])
    assert forged.json("timeline", incident)
    found = verified(lab.audit_log, 20, by=forged)["findings"]
    assert [(one["kind"], one["audit_id"]) for one in found] == [("unclaimed", ids[0])]

    # The responder's own identity, used beside Ringfence while the incident is open.
    second = ringfence.json("contain", f"pod/{other}", "-n", space.name, "--reason", "odd too")["incident"]["id"]
    kubectl(lab, who, "-n", space.name, "label", "pod", other, "by-hand=yes")
    (finding,) = verified(lab.audit_log, 20, of=second)["findings"]
    assert finding["kind"] == "unclaimed"
    assert finding["what"] == f"patch pods/{other} in {space.name} by {who.user}"
    assert "kubectl" in finding["found"]
    assert verified(lab.audit_log, 0)["findings"] == [], "the first incident was over by then"


def _later(ringfence: Ringfence, incident: str) -> str:
    """The last result of the incident and more than the clocks' tolerance, as text that sorts."""
    last = max(event["occurred_at"] for event in ringfence.events(incident, "change.result"))
    return (datetime.fromisoformat(last) + timedelta(seconds=6)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _forget(ringfence: Ringfence, incident: str, audit_id: str) -> None:
    """Take a change out of timeline and journal, and chain the rest anew: what one who owns the database can do."""
    store = open_store(ringfence.settings["store"]["url"])
    event, change = tables.event, tables.change
    with store.write() as session:
        rows = session.execute(sa.select(event).where(event.c.incident == incident).order_by(event.c.seq)).all()
        kept = [row for row in rows if json.loads(row.body).get("audit_id") != audit_id]
        assert len(kept) == len(rows) - 2
        session.execute(sa.delete(change).where(change.c.audit_id == audit_id))
        session.execute(sa.delete(event).where(event.c.incident == incident))
        previous = GENESIS
        for seq, row in enumerate(kept, start=1):
            link = chain_hash(incident, seq, row.body_sha256, previous)
            fields = {**row._asdict(), "seq": seq, "prev_hash": previous, "hash": link}
            session.execute(sa.insert(event).values(**fields))
            previous = link
        session.execute(
            sa.update(tables.incident).where(tables.incident.c.id == incident).values(seq=len(kept), head_hash=previous)
        )
    store.close()


def test_an_eradication_is_in_the_log_with_its_deletion_and_its_canary_token(
    space: Space, tmp_path: Path, responders: tuple[Responder, Responder]
) -> None:
    """By the other responder: the first has acted beside Ringfence just now."""
    ringfence = Ringfence(space.lab, tmp_path, responders[1].kubeconfig)
    space.workload("shop", 2)
    suspect, _ = space.wait_pods(2, app="shop")
    incident = ringfence.json("contain", f"pod/{suspect}", "-n", space.name, "--reason", "odd")["incident"]["id"]
    ringfence.json("eradicate", incident)
    tried = [event["result"] for event in ringfence.events(incident, "canary.tried")]
    assert tried == ["intended", "accepted", "refused"]
    found = ringfence.json("evidence", "verify", incident, "--audit-log", str(space.lab.audit_log))["audit_log"]
    assert found["findings"] == []
    intents = ringfence.events(incident, "change.intended")
    assert any(event["verb"] == "delete" and event["ref"]["name"] == suspect for event in intents)
    assert found["claims"] == len(intents) + 1
    assert found["matched"] + found["not_sent"] == found["claims"]
