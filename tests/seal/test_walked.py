"""What is remembered of chains saves work and changes no verdict."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ringfence.seal import verify
from ringfence.seal.chain import Head
from ringfence.seal.signing import SigningKey
from ringfence.seal.verify import Examination, examine_stream
from ringfence.seal.walked import START, Place, Walked
from tests.seal import sample
from tests.seal.archive import replaced

Make = Callable[[int], bytes]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory, key: SigningKey) -> Make:
    """A bundle whose chains have so many entries; the shorter are beginnings of the longer."""
    folder, made = tmp_path_factory.mktemp("grown"), dict[int, bytes]()

    def bundle(length: int) -> bytes:
        if length not in made:
            path = folder / f"{length}.tar"
            events = ["declared", "erased", *(f"event {number}" for number in range(length))][:length]
            chains = {
                "custody_entries": sample.custody_entries(length),
                "timeline_entries": sample.timeline_entries(events),
            }
            sample.write(path, key, **chains)
            made[length] = path.read_bytes()
        return made[length]

    return bundle


def said(found: Examination) -> tuple[object, ...]:
    return (found.seal, [str(problem) for problem in found.problems], found.stopped)


def without_line(data: bytes, which: int) -> bytes:
    lines = data.splitlines(keepends=True)
    return b"".join(lines[:which] + lines[which + 1 :])


@given(
    st.lists(st.tuples(st.integers(0, 6), st.sampled_from(["", "custody.jsonl", "timeline.jsonl"]), st.integers(0, 6))),
    st.sampled_from([1, 1 << 26]),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_verdict_is_that_of_a_walk_from_the_beginning(
    make: Make, key: SigningKey, asked: list[tuple[int, str, int]], largest: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verify, "LARGEST", largest)
        walked = Walked()
        for length, changed, line in asked:
            bundle = make(length)
            if changed:
                bundle = replaced(bundle, changed, lambda data, line=line: without_line(data, line))
            alone = examine_stream(io.BytesIO(bundle), key.public_key)
            assert said(examine_stream(io.BytesIO(bundle), key.public_key, walked)) == said(alone)


def test_lines_that_are_known_are_not_walked_again(
    make: Make, key: SigningKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    walked, seen = Walked(), []
    read = verify.TimelineEntry.from_line
    monkeypatch.setattr(verify.TimelineEntry, "from_line", lambda line: seen.append(line) or read(line))
    for length, new in ((3, 3), (5, 2), (5, 0), (4, 0), (6, 1)):
        seen.clear()
        verdict = examine_stream(io.BytesIO(make(length)), key.public_key, walked).verdict()
        assert (len(seen), verdict.erased_events) == (new, 1)


def test_what_two_threads_walked_at_once_is_put_together() -> None:
    def places(count: int) -> list[Place]:
        return [Place(2 * number, Head(number, f"{number:064x}"), 0) for number in range(1, count + 1)]

    walked = Walked()
    walked.keep("c", b"a\nb\nc\n", places(3))
    walked.keep("c", b"a\nb\nc\nd\n", places(4))  # walked from the start: it began before the first was kept
    assert walked.furthest("c", b"a\nb\nc\nd\ne\n") == places(4)[-1]
    assert walked.furthest("c", b"a\nb\n") == places(2)[-1]
    assert walked.furthest("c", b"a\nX\n") == START
    assert walked.furthest("c", b"a\nb") == START, "half a line is no place"
    assert walked.furthest("other", b"a\n") == START


def test_nothing_is_kept_of_a_chain_that_is_too_large() -> None:
    walked = Walked()
    huge = bytes((64 << 20) + 1)
    walked.keep("c", huge, [Place(len(huge), Head(1, f"{1:064x}"), 0)])
    assert walked.furthest("c", huge) == START
