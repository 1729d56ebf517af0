"""The bank's services as plain processes on loopback, started as their image starts them, and a customer of theirs.

Covered: the answers, failure of one service, what the log says, the template hole that the attacks use, and the end by
SIGTERM. Not covered here: probes by kubelet, Service names, policies (tests/lab/test_bank.py).
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab.bank.services import cards
from lab.client import Call, Customer, summarise

pytestmark = pytest.mark.slow  # it waits for real time-outs

BANK = Path(__file__).parents[2] / "lab" / "bank"
NOBODY = "http://127.0.0.1:9"


@dataclass
class Service:
    """A running service; ``log`` holds its lines so far, each read as JSON."""

    process: subprocess.Popen[str]
    url: str = ""
    log: list[dict[str, Any]] = field(default_factory=list)
    reader: threading.Thread | None = None

    def get(self, target: str, headers: dict[str, str] | None = None) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(urllib.request.Request(self.url + target, headers=headers or {})) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def lines(self, **fields: object) -> list[dict[str, Any]]:
        """The log's lines with these fields. A line is written after the answer, so it may take a moment."""
        deadline = time.monotonic() + 5
        while True:
            found = [line for line in self.log if fields.items() <= line.items()]
            if found or time.monotonic() > deadline:
                return found
            time.sleep(0.01)

    def end(self) -> int:
        self.process.terminate()
        code = self.process.wait(10)
        assert self.reader
        assert self.process.stdout
        self.reader.join()
        self.process.stdout.close()
        return code


Start = Callable[..., Service]


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Starts a service on a free port; all that still run end with the module."""
    folder = tmp_path_factory.mktemp("bank")
    manifest = yaml.safe_load_all((BANK / "manifests" / "cards.yaml").read_text())
    configuration = next(entry["data"] for entry in manifest if entry["kind"] == "ConfigMap")
    (folder / "cards.json").write_text(configuration["cards.json"])
    running: list[Service] = []

    def start_one(name: str, **environment: str) -> Service:
        defaults = {
            "HOST": "127.0.0.1",
            "PORT": "0",
            "POD_NAME": f"{name}-pod",
            "LEDGER_FILE": str(folder / "ledger.db"),
            "CARDS_CONFIG": str(folder),
            "CARDS_DB_PASSWORD": "for this test",
            "PATH": os.environ["PATH"],
        }
        process = subprocess.Popen(
            [sys.executable, str(BANK / "main.py"), name],
            env=defaults | environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        service = Service(process)

        def read() -> None:
            assert process.stdout
            for line in process.stdout:
                service.log.append(json.loads(line))

        service.reader = threading.Thread(target=read, daemon=True)
        service.reader.start()
        deadline = time.monotonic() + 10
        while not (listening := [line for line in service.log if line["msg"] == "listening"]):
            assert time.monotonic() < deadline, f"{name} does not listen: {service.log}"
            time.sleep(0.01)
        service.url = f"http://127.0.0.1:{listening[0]['port']}"
        running.append(service)
        return service

    yield start_one
    for service in running:
        if service.process.poll() is None:
            service.process.send_signal(signal.SIGTERM)
    for service in running:
        service.end()


@pytest.fixture(scope="module")
def bank(start: Start) -> dict[str, Service]:
    ledger = start("ledger")
    accounts, cards = (start(name, LEDGER_URL=ledger.url) for name in ("accounts", "cards"))
    loans = start("loans")
    urls = {"ACCOUNTS_URL": accounts.url, "CARDS_URL": cards.url, "LOANS_URL": loans.url}
    gateway = start("gateway", **urls)
    return {"gateway": gateway, "accounts": accounts, "cards": cards, "loans": loans, "ledger": ledger}


def statement(gateway: Service, text: str) -> tuple[int, str]:
    return gateway.get("/cards/statement?" + urllib.parse.urlencode({"customer": "7", "format": text}))


def test_an_overview_has_a_part_from_every_service(bank: dict[str, Service]) -> None:
    status, body = bank["gateway"].get("/overview/9")
    overview = json.loads(body)
    assert status == 200
    assert overview["customer"] == 9
    assert [account["product"] for account in overview["accounts"]] == ["current", "savings"]
    assert overview["cards"][0]["balance_cents"] == 101_271
    assert overview["loans"][0]["months"] == 36


def test_ibans_have_valid_check_digits(bank: dict[str, Service]) -> None:
    accounts = json.loads(bank["accounts"].get("/accounts/4711")[1])
    for iban in (account["iban"] for account in accounts):
        digits = "".join(str(int(letter, 36)) for letter in iban[4:] + iban[:4])
        assert int(digits) % 97 == 1
        assert len(iban) == 22


@pytest.mark.parametrize("path", ["/overview/999999", "/overview/x", "/overview/1/2", "/"])
def test_what_does_not_exist_is_404(bank: dict[str, Service], path: str) -> None:
    assert bank["gateway"].get(path)[0] == 404


def test_without_one_service_there_is_no_overview_and_the_error_names_it(
    start: Start, bank: dict[str, Service]
) -> None:
    urls = {"ACCOUNTS_URL": bank["accounts"].url, "CARDS_URL": bank["cards"].url, "LOANS_URL": NOBODY}
    gateway = start("gateway", **urls)
    status, body = gateway.get("/overview/1")
    assert status == 502
    assert json.loads(body) == {"error": "loans does not answer"}
    assert gateway.lines(path="/overview/1", status=502)
    assert [line["attempt"] for line in gateway.lines(msg="upstream failed")] == [1, 2, 3]


def test_a_service_that_hangs_is_asked_once_and_given_up_within_a_customers_two_seconds(
    start: Start, bank: dict[str, Service]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        urls = {"ACCOUNTS_URL": bank["accounts"].url, "CARDS_URL": bank["cards"].url}
        gateway = start("gateway", **urls, LOANS_URL=f"http://127.0.0.1:{silent.getsockname()[1]}")
        began = time.monotonic()
        assert gateway.get("/overview/1")[0] == 502
        assert time.monotonic() - began < 2
        assert [line["attempt"] for line in gateway.lines(msg="upstream failed")] == [1]


def test_one_trace_id_goes_through_every_service(bank: dict[str, Service]) -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    bank["gateway"].get("/overview/21", {"traceparent": f"00-{trace}-b7ad6b7169203331-01"})
    paths = {"gateway": "/overview/21", "accounts": "/accounts/21", "cards": "/cards/21", "ledger": "/balances/21"}
    for name, path in paths.items():
        lines = bank[name].lines(path=path)
        assert lines, f"{name} logged nothing of {path}"
        assert {line["trace"] for line in lines} == {trace}


def test_a_request_leaves_one_line_with_every_field(bank: dict[str, Service]) -> None:
    bank["loans"].get("/loans/33?a=1")
    (line,) = bank["loans"].lines(path="/loans/33?a=1")
    assert list(line) == [
        *("ts", "level", "service", "pod", "msg", "method", "path", "status", "ms", "trace", "client"),
    ]
    assert (line["service"], line["pod"], line["status"]) == ("loans", "loans-pod", 200)
    assert line["ts"].endswith("Z")


def test_hostile_request_text_does_not_end_a_log_line(bank: dict[str, Service]) -> None:
    """The log is read line by line as JSON by this module's fixture, so a forged line would break or show."""
    address = urllib.parse.urlsplit(bank["loans"].url)
    with socket.create_connection((address.hostname, address.port)) as connection:
        connection.sendall(b'GET /x\x0b\x1b[2J\x85{"msg":"forged"} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n')
        while connection.recv(4096):
            pass
    bank["loans"].get("/loans/77")
    assert bank["loans"].lines(path="/loans/77")
    assert "forged" not in {line["msg"] for line in bank["loans"].log}


def test_a_statement_fills_in_the_card(bank: dict[str, Service]) -> None:
    assert statement(bank["gateway"], "${number}: ${balance_cents / 100}") == (200, "4000 00** **** 0007: 854.33")


def test_a_statement_evaluates_whatever_it_is_given(bank: dict[str, Service]) -> None:
    """The hole that the lab's attacks come in by: if it closes, there is no incident to respond to."""
    assert statement(bank["gateway"], "${__import__('os').getpid()}") == (200, str(bank["cards"].process.pid))


def test_a_statement_that_cannot_be_evaluated_tells_the_caller_nothing(bank: dict[str, Service]) -> None:
    status, body = statement(bank["gateway"], "${secret_name}")
    assert (status, json.loads(body)) == (500, {"error": "internal error"})
    failures = bank["cards"].lines(msg="handler failed")
    assert failures[-1]["error"].startswith("NameError")


def test_told_to_end_a_service_leaves_rotation_first_and_is_gone_within_two_seconds(start: Start) -> None:
    service = start("loans")
    assert service.get("/readyz")[0] == 200
    began = time.monotonic()
    service.process.send_signal(signal.SIGTERM)
    time.sleep(0.1)
    assert service.get("/readyz")[0] == 503
    assert service.get("/healthz")[0] == 200
    assert service.get("/loans/3")[0] == 200
    assert service.end() == 0
    assert time.monotonic() - began < 2
    assert service.log[-1]["msg"] == "stopped"
    assert service.log[-1]["unfinished"] == 0


def test_a_request_under_way_is_finished_when_told_to_end(start: Start, bank: dict[str, Service]) -> None:
    cards = start("cards", LEDGER_URL=bank["ledger"].url)
    answers: list[tuple[int, str]] = []
    slow = threading.Thread(target=lambda: answers.append(statement(cards, "${__import__('time').sleep(1) or 'done'}")))
    slow.start()
    time.sleep(0.2)
    assert cards.end() == 0
    slow.join()
    assert answers == [(200, "done")]


@pytest.mark.parametrize(
    ("content", "code", "message"),
    [
        ('{"scheme": "m", "limit_cents": 1, "statement_format": ""}', 0, "configuration accepted"),
        ('{"scheme": "m"}', 1, "configuration refused"),
        ("{", 1, "configuration refused"),
        (None, 1, "configuration refused"),
    ],
)
def test_the_configuration_check_stops_what_the_service_could_not_start_with(
    tmp_path: Path, content: str | None, code: int, message: str
) -> None:
    if content is not None:
        (tmp_path / "cards.json").write_text(content)
    command = [sys.executable, str(BANK / "main.py"), "cards-config-check"]
    result = subprocess.run(command, env={"CARDS_CONFIG": str(tmp_path)}, capture_output=True, text=True)
    assert result.returncode == code
    assert json.loads(result.stdout)["msg"] == message


def test_an_unknown_service_is_a_usage_error() -> None:
    result = subprocess.run([sys.executable, str(BANK / "main.py"), "payments"], capture_output=True, text=True)
    assert result.returncode == 2
    assert "gateway" in result.stderr


def test_a_customer_of_a_healthy_bank_feels_nothing(bank: dict[str, Service]) -> None:
    with Customer(bank["gateway"].url, interval=0.02) as customer:
        time.sleep(0.5)
        summary = customer.stop()
    assert summary.requests >= 10
    assert (summary.failures, summary.longest_outage, summary.success) == (0, 0.0, 1.0)
    assert 0 < summary.p50 <= summary.p95 < 2


def test_a_customer_of_nobody_counts_every_failure() -> None:
    customer = Customer(NOBODY, interval=0.02)
    time.sleep(0.2)
    summary = customer.stop()
    assert summary.failures == summary.requests > 0
    assert summary.longest_outage > 0.1
    assert customer.calls[0].error.startswith("ConnectionRefusedError")


def test_the_longest_outage_runs_from_the_first_failure_to_the_next_good_request() -> None:
    moments = [(10.0, True), (10.5, False), (11.0, False), (11.5, True), (12.0, False), (12.25, True)]
    summary = summarise([Call(start, 0.1, ok) for start, ok in moments])
    assert summary.longest_outage == pytest.approx(1.0)
    assert summary.per_second == {0: 0.5, 1: 0.5, 2: 0.5}


def test_an_outage_that_does_not_end_runs_to_the_last_answer() -> None:
    summary = summarise([Call(1.0, 0.1, True), Call(2.0, 2.0, False), Call(3.0, 2.0, False)])
    assert summary.longest_outage == pytest.approx(3.0)


def test_a_url_without_a_host_is_refused() -> None:
    with pytest.raises(ValueError, match="not an http:// URL"):
        Customer("gateway:8080")


def test_the_mended_bank_takes_what_a_caller_writes_for_no_program() -> None:
    values = {"number": "4000", "balance_cents": 100}
    assert cards.fill("${number}: ${ balance_cents } ${__import__('os').getpid()}", values) == "4000: 100 "
