"""``recover --dry-run`` on a real API server: it says what stands in the way, and the audit log has no change by it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lab.program import Json, Responder, Ringfence
from tests.lab.space import Space

pytestmark = pytest.mark.lab


@pytest.mark.slow
def test_each_gate_is_shown_as_it_stands_and_nothing_is_changed(
    space: Space, tmp_path: Path, responders: tuple[Responder, Responder]
) -> None:
    ringfence = Ringfence(space.lab, tmp_path, responders[0].kubeconfig)
    space.workload("web", 2)
    name = space.wait_pods(2, app="web")[0]
    made = ringfence.json("contain", f"pod/{name}", "-n", space.name, "--reason", "odd egress")
    incident = made["incident"]["id"]

    def stands(code: int) -> dict[str, Json]:
        before = ringfence.json("timeline", incident)
        found = ringfence.json("recover", incident, "--dry-run", code=code)
        assert ringfence.json("timeline", incident) == before
        return {one["step"]: one for one in found["steps"]}

    clean = stands(3)["clean"]
    assert (clean["stand"], clean["ends"]) == ("shut", True)
    assert f"left running: Pod {space.name}/{name}" in clean["words"]

    ringfence.json("eradicate", incident)
    for row in ringfence.rows(incident).values():
        if row["state"] in ("alive", "unseen") and row["path"] != "workload.replacement":
            ringfence.ok("accept", incident, row["path"], "--reason", "looked at")
    found = stands(3)
    assert found["clean"]["stand"] == "passes"
    assert found["clean"]["proof"]["level"] == "observed"
    assert found["hole"]["stand"] == "shut"
    assert f"Deployment {space.name}/web would start the suspects' image again" in found["hole"]["words"]

    ringfence.ok("accept", incident, "workload.replacement", "--reason", "the fix comes tomorrow")
    found = stands(0)
    assert found["hole"]["stand"] == "passes"
    assert "2 of 2 pods are ready now" in found["try-canary"]["words"]
    checked = ringfence.json("evidence", "verify", incident, "--audit-log", str(space.lab.audit_log))["audit_log"]
    assert [finding for finding in checked["findings"] if finding["kind"] != "note"] == []
