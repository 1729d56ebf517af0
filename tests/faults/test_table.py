"""The table keeps the laws of outcomes, and the page that users read shows it."""

from __future__ import annotations

import pytest

from ringfence.model.plan import Verb
from tests.faults import page, table
from tests.faults.proxy import Instead

ROWS = table.rows()
every_row = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.title)
every_verb = pytest.mark.parametrize("verb", list(Verb))


def test_no_two_rows_are_the_same() -> None:
    assert len({row.title for row in ROWS}) == len(ROWS) > 40


@every_row
@every_verb
@pytest.mark.parametrize("witness", [False, True])
def test_in_the_end_what_is_said_is_what_is_there(row: table.Row, verb: Verb, witness: bool) -> None:
    want = table.expected(row, verb, witness=witness)
    assert (want.then in ("applied", "already")) is want.landed
    assert bool(want.then_code) is not want.landed
    assert want.then != "unknown"


@every_row
def test_what_is_said_at_first_is_never_the_opposite(row: table.Row) -> None:
    want = table.expected(row, Verb.PATCH)
    if row.arrives == "late":
        assert want.code == "not-applied", "as of that moment; it is looked for again"
    elif want.landed:
        assert want.kind in ("applied", "already", "unknown")
    else:
        assert want.kind in ("failed", "unknown")


@pytest.mark.parametrize("row", table.rows(of_node=True), ids=lambda row: row.title)
@pytest.mark.parametrize("witness", [False, True])
def test_of_a_node_nothing_is_said_that_is_not_so(row: table.Row, witness: bool) -> None:
    """Where nobody can tell, it stays unknown: neither a success nor a failure."""
    want = table.expected(row, Verb.CREATE, witness=witness, of_node=True)
    assert want.then in (("applied", "unknown") if want.landed else ("failed", "unknown"))
    assert (want.then == "applied") is (want.landed and (witness or want.kind == "applied"))


def test_every_status_of_the_issue_is_there() -> None:
    statuses = {spoil.status for spoil in table.SPOILS.values() if isinstance(spoil, Instead)}
    assert statuses >= {200, 403, 404, 409, 422, 429, 500, 504}


def test_the_page_shows_the_table() -> None:
    text = page.PAGE.read_text(encoding="utf-8")
    assert text == page.rendered(text), "python -m tests.faults.page writes it"
