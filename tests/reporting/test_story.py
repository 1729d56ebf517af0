"""Every event has a sentence that holds its words."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from ringfence.model.incident import Determination, Severity
from ringfence.model.objects import ObjectRef
from ringfence.model.run import Ceiling, Decision, RunState
from ringfence.model.timeline import (
    ApprovalDecided,
    ApprovalRequested,
    AwarenessRecorded,
    CancelRequested,
    Classified,
    DeterminationMade,
    HandedOver,
    LeaseExpired,
    LeaseGranted,
    NoteAdded,
    RunEnded,
    RunStarted,
    RunTaken,
    TargetJoined,
)
from ringfence.reporting.story import sentence

AT = datetime(2026, 11, 23, 3, 0, tzinfo=UTC)
POD = ObjectRef(cluster="c1", api_version="v1", kind="Pod", namespace="bank", name="cards-2", uid="u2")
CEILING = Ceiling(actions=("pod.delete",), targets=("Pod bank/cards-2",), pods=1)

SENTENCES: list[tuple[type[Any], dict[str, Any], list[str]]] = [
    (TargetJoined, {"target": POD, "how": "same image"}, ["Pod bank/cards-2", "same image"]),
    (AwarenessRecorded, {"aware_at": AT, "reason": "the SOC called"}, ["2026-11-23T03:00:00Z", "the SOC called"]),
    (
        DeterminationMade,
        {"determination": Determination.FALSE_POSITIVE, "reason": "a load test"},
        ["false-positive", "a load test"],
    ),
    (
        Classified,
        {"severity": Severity.HIGH, "scheme": "DORA", "value": "major", "reason": "payments"},
        ["high", "DORA: major", "payments"],
    ),
    (NoteAdded, {"text": "called the CISO"}, ["called the CISO"]),
    (
        HandedOver,
        {"to": "bob", "open_rows": ("network.dns",), "waiting": ("INC-1/approval/1",), "note": "good luck"},
        ["bob", "network.dns", "INC-1/approval/1", "good luck"],
    ),
    (
        RunStarted,
        {
            "run": "INC-1/run/1",
            "playbook": "compromised-workload",
            "playbook_sha256": "0" * 64,
            "phases": ("contain", "seal"),
            "targets": (POD,),
            "command": "contain",
        },
        ["INC-1/run/1", "compromised-workload", "contain, seal", "1 target"],
    ),
    (
        RunTaken,
        {"run": "INC-1/run/1", "epoch": 2, "segment": 3, "executor": "host-7"},
        ["INC-1/run/1", "host-7", "segment 3", "epoch 2"],
    ),
    (RunEnded, {"run": "INC-1/run/1", "state": RunState.FAILED, "why": "no answer"}, ["failed", "no answer"]),
    (CancelRequested, {"run": "INC-1/run/1", "reason": "wrong pod"}, ["wrong pod", "stays in force"]),
    (
        ApprovalRequested,
        {
            "approval": "INC-1/approval/1",
            "run": "INC-1/run/1",
            "step": "delete",
            "reason": "above the cap",
            "ceiling": CEILING,
            "ceiling_sha256": "0" * 64,
            "second_person": True,
            "expires_at": AT,
        },
        ["INC-1/approval/1", "delete", "above the cap", "second person", "2026-11-23T03:00:00Z"],
    ),
    (
        ApprovalDecided,
        {
            "approval": "INC-1/approval/1",
            "decision": Decision.REJECTED,
            "ceiling_sha256": "0" * 64,
            "reason": "not now",
        },
        ["INC-1/approval/1", "rejected", "not now"],
    ),
    (LeaseGranted, {"until": AT}, ["2026-11-23T03:00:00Z"]),
    (LeaseExpired, {"until": AT}, ["2026-11-23T03:00:00Z", "Nothing was reverted"]),
]


@pytest.mark.parametrize(("kind", "facts", "words"), SENTENCES)
def test_a_sentence_holds_the_events_words(kind: type[Any], facts: dict[str, Any], words: list[str]) -> None:
    said = sentence(kind(occurred_at=AT, actor="alice", **facts))
    for word in words:
        assert word in said
