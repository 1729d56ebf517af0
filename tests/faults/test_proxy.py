"""The proxy itself, in front of a small server: what it lets through, what it spoils, and what it notes."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.faults import table
from tests.faults.proxy import Aim, Cut, Dribble, Fault, Instead, Proxy, Spoil, Upstream
from tests.wire import Answer, Request, Wire, kubeconfig

HTTP = httpx2.Client(verify=False, trust_env=False, limits=httpx2.Limits(max_keepalive_connections=0))


@pytest.fixture
def behind() -> Iterator[Wire]:
    """Answers with what it was asked, as JSON."""

    def echo(request: Request) -> Answer:
        body = {"path": request.path, "query": dict(request.query), "got": request.body.decode()}
        return Answer(201, json.dumps({**body, "headers": dict(request.headers)}).encode())

    with Wire(echo) as wire:
        yield wire


@pytest.fixture
def proxy(behind: Wire, tmp_path: Path) -> Iterator[Proxy]:
    upstream = Upstream(kubeconfig(tmp_path / "upstream", behind.url))
    with Proxy(upstream) as started:
        yield started
    upstream.close()


def post(proxy: Proxy, path: str = "/api/v1/pods", timeout: float = 5.0, **query: str) -> httpx2.Response:
    headers = {"Authorization": "Bearer mine", "Audit-ID": "a-1"}
    return HTTP.post(f"{proxy.url}{path}", params=query, content=b"{}", headers=headers, timeout=timeout)


def test_a_request_passes_under_the_upstreams_credentials(proxy: Proxy) -> None:
    answer = post(proxy, fieldManager="x y")
    assert answer.status_code == 201
    seen = answer.json()
    assert (seen["path"], seen["query"], seen["got"]) == ("/api/v1/pods", {"fieldManager": "x y"}, "{}")
    assert seen["headers"]["authorization"] == "Bearer alice"
    noted = proxy.exchanges[0]
    assert (noted.method, noted.audit_id, noted.dry_run, noted.status) == ("POST", "a-1", False, 201)


def test_the_callers_own_credentials_pass_where_they_are_to(behind: Wire, tmp_path: Path) -> None:
    upstream = Upstream(kubeconfig(tmp_path / "upstream", behind.url), as_caller=True)
    with Proxy(upstream) as proxy:
        assert post(proxy).json()["headers"]["authorization"] == "Bearer mine"
    upstream.close()


@pytest.mark.parametrize("reaches", [False, True])
@pytest.mark.parametrize("name", [name for name, spoil in table.SPOILS.items() if isinstance(spoil, Instead)])
def test_another_answer_is_given_instead(proxy: Proxy, behind: Wire, name: str, reaches: bool) -> None:
    spoil = table.SPOILS[name]
    assert isinstance(spoil, Instead)
    proxy.aims.append(Aim(Fault(spoil, reaches), "POST"))
    answer = post(proxy)
    assert (answer.status_code, answer.content) == (spoil.status, spoil.body)
    assert len(behind.requests) == int(reaches)
    assert proxy.exchanges[0].spoilt
    assert post(proxy).status_code == 201, "one time only"


@pytest.mark.parametrize("reaches", [False, True])
@pytest.mark.parametrize("spoil", [Cut(), Cut(5), Dribble("headers", 0.01, 0.2), Dribble("body", 0.01, 0.2)], ids=repr)
def test_a_connection_breaks(proxy: Proxy, behind: Wire, spoil: Spoil, reaches: bool) -> None:
    proxy.aims.append(Aim(Fault(spoil, reaches), "POST"))
    with pytest.raises(httpx2.TransportError):
        post(proxy)
    assert len(behind.requests) == int(reaches)


def test_a_dribble_goes_on_for_longer_than_a_read_may_take(proxy: Proxy) -> None:
    proxy.aims.append(Aim(Fault(Dribble("headers", 0.05, 0.6), reaches=True), "POST"))
    began = time.monotonic()
    with pytest.raises(httpx2.TransportError):
        post(proxy, timeout=0.3)
    assert time.monotonic() - began > 0.5, "no single read timed out"


def test_a_late_request_arrives_when_it_is_told_to(proxy: Proxy, behind: Wire) -> None:
    proxy.aims.append(Aim(Fault(table.SPOILS["504"], reaches=True, later=True), "POST"))
    assert post(proxy).status_code == 504
    assert (behind.requests, proxy.exchanges[0].status) == ([], None)
    proxy.settle()
    assert (len(behind.requests), proxy.exchanges[0].status) == (1, 201)


def test_it_aims_at_the_nth_request_of_a_method_path_and_kind(proxy: Proxy) -> None:
    fault = Fault(table.SPOILS["500"], reaches=False)
    proxy.aims.append(Aim(fault, "POST", r"/api/v1/po.*", dry=False, skip=1))
    answers = [
        HTTP.get(f"{proxy.url}/api/v1/pods").status_code,
        post(proxy, "/api/v1/nodes").status_code,
        post(proxy, dryRun="All").status_code,
        post(proxy).status_code,
        post(proxy).status_code,
        post(proxy).status_code,
    ]
    assert answers == [201, 201, 201, 201, 500, 201]
    assert len(proxy.writes) == 4


def test_what_others_do_comes_between_the_write_and_the_answer(proxy: Proxy, behind: Wire) -> None:
    seen: list[int] = []
    fault = Fault(Cut(), reaches=True, meanwhile=lambda: seen.append(len(behind.requests)))
    proxy.aims.append(Aim(fault, "POST"))
    with pytest.raises(httpx2.TransportError):
        post(proxy)
    assert seen == [1]
