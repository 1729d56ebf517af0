"""``ringfence notify test`` as it is typed, and what ``doctor`` and the screen say about pages."""

from __future__ import annotations

import json

import pytest

from ringfence.errors import ExitCode
from tests.cli.console import Console
from tests.response.readiness_of import with_templates
from tests.simulator import Simulator
from tests.wire import Answer, Wire


def configured(monkeypatch: pytest.MonkeyPatch, *receivers: dict[str, object]) -> None:
    monkeypatch.setenv("RINGFENCE_CONTACTS", '[{"role": "on-call", "name": "ada", "reach": "4711"}]')
    monkeypatch.setenv("RINGFENCE_NOTIFY__TO", json.dumps(receivers))


def url(wire: Wire) -> str:
    return f"{wire.url.replace('http://', 'json://')}/s3cr3t"


def test_a_test_page_arrives_and_says_that_it_is_one(console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    with Wire(Answer()) as wire:
        configured(monkeypatch, {"name": "pager", "url": url(wire), "for": ["on-call"]})
        done = console("notify", "test", "--contact", "on-call")
        assert done.code == ExitCode.OK
        assert "pager: taken" in done.out
        assert "This is a test" in json.loads(wire.requests[0].body)["message"]


def test_a_receiver_that_refuses_fails_the_command_without_its_url(
    console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Wire(Answer(status=500)) as wire:
        configured(monkeypatch, {"name": "pager", "url": url(wire), "for": ["cut-failed"]})
        done = console("notify", "test", "-o", "json")
    assert done.code == ExitCode.REFUSED
    (said,) = json.loads(done.out)
    assert (said["receiver"], said["delivered"]) == ("pager", False)
    assert said["problem"]
    assert "s3cr3t" not in done.out + done.err


def test_nobody_to_page_is_an_error_that_says_so(console: Console) -> None:
    done = console("notify", "test")
    assert done.code == ExitCode.CONFIG
    assert "nobody can be paged" in str(done.error)


def examined(console: Console, api: Simulator) -> dict[str, dict[str, str]]:
    with_templates(api)
    return {one["check"]: one for one in json.loads(console("doctor", "-o", "json").out)}


def test_doctor_looks_at_receivers_and_sends_nothing(
    console: Console, api: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Wire(Answer()) as wire:
        configured(
            monkeypatch,
            {"name": "pager", "url": url(wire), "for": ["on-call"]},
            {"name": "wrong", "url": "nosuchservice://s3cr3t", "for": ["cut-failed"]},
        )
        found = examined(console, api)
        assert wire.requests == []
    assert found["pages: wrong"]["level"] == "fail"
    assert "s3cr3t" not in json.dumps(found)


def test_doctor_says_that_nobody_is_paged(console: Console, api: Simulator) -> None:
    assert examined(console, api)["pages"]["level"] == "warn"
