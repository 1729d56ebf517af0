"""The evidence gate: every way that keeps it shut, and the one that opens it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ringfence.model.evidence import Seal
from ringfence.model.objects import ObjectRef
from ringfence.response.gate import shut_because

NOW = datetime(2026, 11, 23, 3, 0, tzinfo=UTC)
MAX_AGE = 900


def pod(uid: str = "u1", name: str = "cards-1") -> ObjectRef:
    return ObjectRef(cluster="c1", api_version="v1", kind="Pod", namespace="bank", name=name, uid=uid)


def seal(uid: str = "u1", *, age: float = 60, complete: bool = True, **changes: Any) -> Seal:
    facts: dict[str, Any] = {
        "id": "INC-1/seal/1",
        "incident": "INC-1",
        "subject_uid": uid,
        "path": "/vault/x.tar",
        "bundle_sha256": "c" * 64,
        "key_id": "k",
        "sealed_at": NOW - timedelta(seconds=age),
        "items": 3,
        "collected": 3,
        "complete": complete,
        "why_incomplete": "" if complete else "logs/cards/current: denied",
    }
    return Seal(**{**facts, **changes})


def shut(*seals: Seal, destroys: tuple[ObjectRef, ...] = (pod(),)) -> tuple[str, ...]:
    return shut_because(destroys, seals, now=NOW, max_age_seconds=MAX_AGE)


@pytest.mark.parametrize("age", [-5, 0, 60, MAX_AGE])
def test_a_fresh_and_complete_seal_of_that_very_pod_opens_the_gate(age: float) -> None:
    assert shut(seal(age=age)) == ()


@pytest.mark.parametrize(
    ("seals", "words"),
    [
        ((), "no seal"),
        ((seal("u2"),), "no seal"),
        ((seal(complete=False),), "no complete seal: logs/cards/current: denied"),
        ((seal(age=MAX_AGE + 1),), "901 s old, 900 s allowed"),
        ((seal(age=10**9),), "s old"),
        ((seal(age=-6),), "future"),
        ((seal(complete=False), seal(age=MAX_AGE + 1)), "s old"),
        ((seal(age=MAX_AGE + 1), seal(complete=False)), "s old"),
        ((seal(), seal(age=-60)), "future"),  # the newest counts, and its age is not known
        ((seal(""),), "no seal"),
    ],
)
def test_anything_less_keeps_it_shut_and_says_why(seals: tuple[Seal, ...], words: str) -> None:
    (why,) = shut(*seals)
    assert words in why
    assert "cards-1" in why


def test_an_older_complete_seal_counts_beside_a_newer_incomplete_one() -> None:
    assert shut(seal(age=120), seal(age=1, complete=False)) == ()


def test_a_seal_made_since_the_clock_jumped_back_counts() -> None:
    """Nobody has to wait until the clock has caught up: collecting the evidence again opens the gate."""
    assert shut(seal(age=-3600), seal(age=10)) == ()
    assert shut(seal(age=-3600), seal(age=-3590), seal(age=10)) == ()


def test_evidence_is_as_old_as_its_acquisition_not_as_its_bundle() -> None:
    late = seal(age=10, acquired_at=NOW - timedelta(seconds=MAX_AGE + 60))
    assert "960 s old" in shut(late)[0], "sealed after a crash from what was acquired long before"
    assert shut(seal(age=10, acquired_at=NOW - timedelta(seconds=60))) == ()


def test_the_newest_complete_seal_counts() -> None:
    assert shut(seal(age=MAX_AGE * 5), seal(age=1)) == ()


def test_a_pod_without_a_uid_is_never_covered() -> None:
    for seals in ((), (seal(""),)):
        assert len(shut(*seals, destroys=(pod(uid=""),))) == 1


def test_every_pod_that_will_die_needs_its_own_seal() -> None:
    doomed = (pod(), pod("u2", "cards-2"), pod("u3", "cards-3"))
    reasons = shut(seal("u2"), destroys=doomed)
    assert [("cards-1" in reasons[0]), ("cards-3" in reasons[1]), len(reasons)] == [True, True, 2]
    assert shut(seal(), seal("u2"), seal("u3"), destroys=doomed) == ()


def test_a_plan_that_does_not_say_what_it_destroys_is_refused() -> None:
    assert shut(seal(), destroys=()) == ("the plan does not say what it destroys",)


def test_seals_and_objects_are_read_once() -> None:
    assert shut_because(iter([pod(), pod()]), iter([seal()]), now=NOW, max_age_seconds=MAX_AGE) == ()


def test_the_allowed_age_is_the_configured_one() -> None:
    assert shut_because([pod()], [seal(age=11)], now=NOW, max_age_seconds=10) != ()
    assert shut_because([pod()], [seal(age=9)], now=NOW, max_age_seconds=10) == ()
