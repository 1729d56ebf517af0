"""The one law of every report: the word is said only when the statement says so, whatever anybody wrote."""

from __future__ import annotations

import contextlib
import re

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ringfence.model.access import Acceptance, AccessPath, PathState, Verdict, verdict
from ringfence.model.proof import Level
from ringfence.reporting import html, markdown
from ringfence.reporting.build import build
from ringfence.store import access, tables
from ringfence.store.database import Store
from tests.reporting.conftest import Written
from tests.reporting.pages import read, read_markdown
from tests.reporting.sample import GENERATED, Sample, at

pytestmark = pytest.mark.slow

PATHS = ("network.egress", "network.ingress", "network.established", "identity.kubernetes", "siblings.image", "node")
BOASTS = st.sampled_from(["", "it is contained", "CONTAINED", "Contained.", "NOT CONTAINED", "uncontained <contained>"])
_NEGATED = re.compile(r"NOT (?:FULLY )?CONTAINED")


class RollBackError(Exception):
    """Ends the transaction of one example."""


@st.composite
def a_row(draw: st.DrawFn, path: str) -> AccessPath:
    state = draw(st.sampled_from(PathState))
    level = draw(st.sampled_from([Level.OBSERVED, Level.PROVEN] if state is PathState.DEAD else list(Level)))
    boast = draw(BOASTS)
    acceptance = Acceptance(
        principal="kubernetes:c1/bob",
        reason=f"taken on {boast}",
        at=at(50),
        state=draw(st.sampled_from([PathState.ALIVE, PathState.UNSEEN])),
    )
    return AccessPath(
        path=path,
        title=f"Way {path} {boast}",
        state=state,
        level=level,
        why=f"because {draw(BOASTS)}",
        until=draw(BOASTS),
        retest=draw(BOASTS),
        as_of=at(50),
        acceptance=acceptance if state is PathState.ACCEPTED else None,
    )


STATEMENTS = st.lists(st.sampled_from(PATHS), unique=True).flatmap(
    lambda paths: st.tuples(*(a_row(path) for path in paths))
)


@pytest.fixture(scope="module")
def store(written: Written) -> Store:
    """The sample incident, in which everybody boasts."""
    return written(" contained ")


def rendered(store: Store, rows: tuple[AccessPath, ...]) -> tuple[Verdict, str, str]:
    made: list[tuple[Verdict, str, str]] = []
    with contextlib.suppress(RollBackError), store.write() as session:
        session.execute(sa.delete(tables.access_path))
        access.save(session, "INC-1", rows, actor=Sample(session).actor(), now=at(50))
        report = build(session, "INC-1", generated_at=GENERATED)
        made.append((report.verdict, html.render(report), markdown.render(report)))
        raise RollBackError
    return made[0]


def said(text: str) -> bool:
    return "contained" in _NEGATED.sub("", text).lower()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=STATEMENTS)
def test_the_word_stands_in_a_report_only_when_no_way_is_alive_or_unseen(
    store: Store, rows: tuple[AccessPath, ...]
) -> None:
    found, page, text = rendered(store, rows)
    assert found is verdict(rows)
    open_rows = [row for row in rows if row.state in (PathState.ALIVE, PathState.UNSEEN)]
    may_say = bool(rows) and not open_rows
    assert may_say == (found is Verdict.CONTAINED)
    if not may_say:
        for shown in (page, text, read(page).text, read_markdown(text).text):
            assert not said(shown)
        assert found.value in page
        assert found.value in text


def test_the_word_is_said_when_every_way_is_dead_or_accepted(store: Store) -> None:
    dead = AccessPath(
        path="network.egress", title="Way", state=PathState.DEAD, level=Level.PROVEN, why="seen", as_of=at(50)
    )
    found, page, text = rendered(store, (dead,))
    assert found is Verdict.CONTAINED
    assert "<strong>CONTAINED</strong>" in page
    assert "**CONTAINED**" in text


def test_what_somebody_wrote_is_marked_as_altered_and_the_report_says_so(store: Store) -> None:
    _, page, text = rendered(store, ())
    assert "shell in the cards pod contain[ed]" in read(page).text
    assert "the brackets are ours" in read(page).text
    assert "the brackets are ours" in read_markdown(text).text
