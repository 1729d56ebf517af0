"""Both formats: the order of the sections, the facts in them, and that the same input gives the same bytes."""

from __future__ import annotations

import dataclasses
import hashlib
import re

import pytest
import rfc8785

from ringfence.model.access import PathState, Verdict
from ringfence.reporting import html, markdown
from ringfence.reporting.export import timeline_json
from ringfence.reporting.view import Report
from ringfence.store.database import Store
from ringfence.store.timeline import chain_hash
from tests.reporting.conftest import Written
from tests.reporting.pages import Page, read, read_markdown
from tests.reporting.sample import report_of

SECTIONS = [
    "Residual access",
    "Incident type and severity",
    "Timeline of events",
    "Affected resources",
    "Actions taken",
    "Root cause (if identified)",
    "Preventive measures",
    "Evidence",
    "What this report does not show",
    "Contacts",
    "The timeline's hash chain",
]


def pages(report: Report) -> list[Page]:
    return [read(html.render(report)), read_markdown(markdown.render(report))]


def test_residual_access_comes_first_then_the_six_headings_of_the_runbook(report: Report) -> None:
    for page in pages(report):
        assert [heading for heading in page.headings if heading in SECTIONS] == SECTIONS
        assert "INC-1" in page.headings[0]


def test_break_glass_stands_before_every_section(report: Report) -> None:
    for text in (html.render(report), markdown.render(report)):
        top = text[: text.index(">Residual access</h2>") if "<html" in text else text.index("## Residual access")]
        for words in ("carol", "card data is leaving now", "logs of container cards", "eradicate/1", "applied"):
            assert words in top[top.index("NOT FULLY CONTAINED") :]


@pytest.mark.parametrize(
    "fact",
    [
        "bank/cards-7d9f",
        "card data is leaving now",
        "the image was rebuilt yesterday",
        "cards would have 0 of 1 serving",
        "1 of 1 new connections may fail, and no end can be said: 0 of 1 are left",
        "open connections may go on",
        "no policy allows the pod a new connection",
        "no canary has tried it",
        "unknown, the write may have happened: time-out: no answer in 10 s",
        "no result was recorded: live state decides",
        "ReplicaSet cards starts one",
        "ef" * 32,
        "12" * 32,
        "34" * 32,
        "56" * 32,
        "the kubelet did not answer",
        "needs access to the node",
        "ringfence-verify INC-1-seal-1.tar --key PUB.pem",
        "canary-15.1",
        "Pod deleted",
        "16.9 s",
        "2026-11-23T03:00:15Z",
        "(undone later)",
        "extension 4",
        "as unseen",
        "Acquired and not sealed",
    ],
)
def test_every_fact_is_in_both_formats(report: Report, fact: str) -> None:
    for page in pages(report):
        assert fact in page.text


def test_audit_ids_and_the_head_of_the_chain_are_given_in_full(report: Report) -> None:
    for page in pages(report):
        for change in (change for step in report.steps for change in step.changes):
            assert change.audit_id in page.text
        assert report.head.hash in page.text


def test_the_same_store_gives_the_same_bytes(written: Written) -> None:
    first, second = report_of(written("")), report_of(written(""))
    assert html.render(first) == html.render(second)
    assert markdown.render(first) == markdown.render(second)


def test_the_page_needs_nothing_else_and_runs_nothing(report: Report) -> None:
    page = read(html.render(report))
    names = {name for name, _ in page.tags}
    assert not names & {"script", "link", "img", "iframe", "object", "embed", "form", "svg", "base"}
    for _, attributes in page.tags:
        for name, value in attributes:
            assert not name.startswith("on")
            assert name != "src"
            if name == "href":
                assert (value or "").startswith("#")
    style = html.render(report).split("<style>")[1].split("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style


def test_the_page_can_be_read_without_seeing_it(report: Report) -> None:
    page = read(html.render(report))
    assert ("html", (("lang", "en"),)) in page.tags
    assert page.open == []
    assert [name for name, _ in page.tags].count("h1") == 1
    for name, attributes in page.tags:
        if name == "th":
            assert dict(attributes)["scope"] in ("row", "col")
    ids = [dict(attributes)["id"] for _, attributes in page.tags if "id" in dict(attributes)]
    assert len(ids) == len(set(ids))
    for _, attributes in page.tags:
        target = dict(attributes).get("aria-labelledby") or (dict(attributes).get("href") or "").removeprefix("#")
        assert not target or target in ids


def test_a_rows_state_is_a_word_and_a_shape_of_its_own_not_a_colour_alone(report: Report) -> None:
    text = html.render(report)
    style = text.split("<style>")[1].split("</style>")[0]
    shapes = set()
    for state in PathState:
        assert f'<span class="state state-{state}">{state.upper()}</span>' in text
        rule = re.search(rf"\.state-{state} {{([^}}]*)}}", style)
        assert rule
        shapes.add(re.sub(r"(?:background|color|border-color):[^;]*;", "", rule[1]).strip())
    assert len(shapes) == len(PathState)


def test_markdown_tables_have_as_many_cells_in_every_row(report: Report) -> None:
    width = 0
    for line in markdown.render(report).splitlines():
        cells = line.count(" | ") if line.startswith("|") else 0
        if not line.startswith("|"):
            width = 0
        elif width == 0:
            width = cells
        assert cells == width, line


def test_accepted_ways_are_said_to_be_open_beside_the_verdict(report: Report) -> None:
    assert report.accepts
    for page in pages(report):
        assert "Accepted ways are as open as they were" in page.text


def test_a_report_without_anything_but_its_declaration_renders(report: Report) -> None:
    bare = dataclasses.replace(
        report,
        verdict=Verdict.NOT_CONTAINED,
        rows=(),
        acceptances=(),
        break_glass=(),
        timeline=(),
        persons=(),
        steps=(),
        refusals=(),
        canaries=(),
        measures=(),
        evidence=(),
        handlings=(),
        custody=None,
        contacts=(),
        command="",
        affected=dataclasses.replace(report.affected, suspect=(), objects=(), services=(), maybe=()),
    )
    for page in pages(bare):
        assert [heading for heading in page.headings if heading in SECTIONS] == SECTIONS
        for words in (
            "No statement of residual access was computed",
            "No step was recorded",
            "No evidence was acquired",
            "None follows from what was recorded",
            "None is configured",
        ):
            assert words in page.text


def test_the_exported_timeline_can_be_verified_from_its_own_text(store: Store) -> None:
    with store.read() as session:
        events = timeline_json(session, "1")
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    previous = "0" * 64
    for event in events:
        assert hashlib.sha256(rfc8785.dumps(event["event"])).hexdigest() == event["body_sha256"]
        assert event["prev_hash"] == previous
        previous = chain_hash(event["incident"], event["seq"], event["body_sha256"], previous)
        assert event["hash"] == previous
