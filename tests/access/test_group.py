"""One statement for several pods: as bad as the worst of them, and it says which one that is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from ringfence.access.group import together
from ringfence.model.access import AccessPath, PathState, Verdict, verdict
from ringfence.model.proof import Level

NOW = datetime(2026, 11, 23, 3, 0, tzinfo=UTC)


def row(path: str, state: PathState, why: str, level: Level = Level.OBSERVED, seconds: int = 0) -> AccessPath:
    return AccessPath(path=path, title=path, state=state, level=level, why=why, as_of=NOW + timedelta(seconds=seconds))


def test_one_pod_is_told_in_its_own_words() -> None:
    rows = (row("network.egress", PathState.DEAD, "gone"),)
    assert together([("web-1", rows)]) == rows


def test_a_row_is_open_while_one_pod_is_and_names_it() -> None:
    (merged,) = together(
        [
            ("web-1", (row("network.egress", PathState.DEAD, "gone"),)),
            ("web-2", (row("network.egress", PathState.ALIVE, "a policy opens it", Level.COMPUTED),)),
        ]
    )
    assert (merged.state, merged.level, merged.why) == (PathState.ALIVE, Level.COMPUTED, "web-2: a policy opens it")
    assert verdict((merged,)) is Verdict.NOT_CONTAINED


def test_unseen_is_worse_than_dead_and_better_than_alive() -> None:
    dead, unseen, alive = (
        ("a", (row("network.dns", PathState.DEAD, "1"),)),
        ("b", (row("network.dns", PathState.UNSEEN, "2"),)),
        ("c", (row("network.dns", PathState.ALIVE, "3"),)),
    )
    assert together([dead, unseen])[0].state is PathState.UNSEEN
    assert together([alive, unseen, dead])[0].state is PathState.ALIVE


def test_a_dead_row_has_the_weakest_proof_and_the_oldest_time() -> None:
    (merged,) = together(
        [
            ("a", (row("node", PathState.DEAD, "x", Level.PROVEN, seconds=9),)),
            ("b", (row("node", PathState.DEAD, "x", Level.OBSERVED),)),
        ]
    )
    assert (merged.level, merged.as_of, merged.why) == (Level.OBSERVED, NOW, "2 pods: x")


def test_a_row_that_only_one_pod_has_is_not_lost() -> None:
    merged = together(
        [("a", (row("node", PathState.DEAD, "x"),)), ("b", (row("identity.cloud", PathState.ALIVE, "a role"),))]
    )
    assert [one.path for one in merged] == ["node", "identity.cloud"]
    assert merged[1].state is PathState.ALIVE


def test_fifty_pods_do_not_make_an_endless_line() -> None:
    pods = [(f"pod-{n}", (row("node", PathState.ALIVE, f"reason {n}"),)) for n in range(50)]
    (merged,) = together(pods)
    assert "and 45 more reasons" in merged.why
    assert len(merged.why) < 300


def test_hostile_names_are_made_harmless() -> None:
    (merged,) = together(
        [
            ("a\x1b[2J\u202e", (row("node", PathState.ALIVE, "1"),)),
            ("b", (row("node", PathState.ALIVE, "2"),)),
        ]
    )
    assert "\x1b" not in merged.why
    assert "\u202e" not in merged.why
