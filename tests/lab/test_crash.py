"""Dying on a real cluster: kill -9 of the program at seeded times and at recorded moments, then ``resume``.

What counts is what the API server's own audit log has: no Audit-ID took effect twice, every change of the journal that
is called done is in it, and the namespace's policies are as before when it is over. Every moment, with the cluster
simulated: tests/crash.
"""

from __future__ import annotations

import json
import multiprocessing
import random
import signal
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from lab.kube import wait_until
from lab.layout import Lab
from ringfence.seal.signing import load_or_create
from ringfence.store import evidence, incidents, runs, timeline
from ringfence.store.database import open_store
from tests.crash import driver
from tests.crash.driver import DIED, INCIDENT, Home, Trouble
from tests.crash.ending import bundles, unresolved
from tests.crash.moments import states
from tests.crash.scenarios import Order
from tests.lab.program import BIN, Office, Responder, Ringfence
from tests.lab.space import Space

pytestmark = pytest.mark.lab
DEATHS = 5
INCOMPLETE = 9


def landed(lab: Lab, since: int, ids: set[str]) -> Counter[str]:
    """Audit-ID → how often the API server carried such a request out, by its own log."""
    found: Counter[str] = Counter()
    with lab.audit_log.open("rb") as log:
        log.seek(since if lab.audit_log.stat().st_size >= since else 0)
        for line in log:
            if b'"ResponseComplete"' not in line:
                continue
            event = json.loads(line)
            mutates = event["verb"] in ("create", "patch", "delete") and "dryRun" not in event["requestURI"]
            if mutates and event["auditID"] in ids and event["responseStatus"]["code"] < 300:
                found[event["auditID"]] += 1
    return found


def check_changes(lab: Lab, since: int, outcomes: dict[str, str]) -> None:
    """``outcomes``: Audit-ID → what the journal says of it in the end."""
    done = {audit_id for audit_id, kind in outcomes.items() if kind in ("applied", "already")}
    wait_until(lambda: done <= set(landed(lab, since, set(outcomes))), 10, "the audit log to have every change")
    counts = landed(lab, since, set(outcomes))
    assert max(counts.values()) == 1, "something took effect twice"
    assert set(counts) == done, "the journal and the audit log disagree"


# --- the program, killed at some time -------------------------------------------------------------------------------
def killed(ringfence: Ringfence, seconds: float, *arguments: str) -> None:
    """``ringfence ARGUMENTS``, kill -9 after that time if it still runs."""
    process = subprocess.Popen(
        [str(BIN / "ringfence"), *arguments],
        env=ringfence.environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()


def incident_of(ringfence: Ringfence, pod: str) -> str:
    return next((one["id"] for one in ringfence.json("incidents") if one["target"]["name"] == pod), "")


def is_going_on(ringfence: Ringfence, incident: str) -> bool:
    events = ringfence.json("timeline", incident)
    kinds = [e["event"]["type"] for e in events]
    return kinds.count("run.ended") < kinds.count("run.started")


def seen_to_its_end(ringfence: Ringfence, pod: str, verb: str, *command: str) -> str:
    """What an operator does who finds that the program was killed."""
    incident = incident_of(ringfence, pod)
    if incident and is_going_on(ringfence, incident):
        done = ringfence.run("resume", incident)
        assert done.returncode in (0, INCOMPLETE), done.stderr
    started = [e["phases"] for e in ringfence.events(incident, "run.started")] if incident else []
    if not any(verb in phases for phases in started):
        done = ringfence.run(*command)
        assert done.returncode in (0, INCOMPLETE), done.stderr
    return incident or incident_of(ringfence, pod)


def test_kill_at_any_time_and_resume(
    lab: Lab, space: Space, responders: tuple[Responder, Responder], tmp_path: Path
) -> None:
    chance = random.Random(20261124)
    space.workload("cards", DEATHS)
    space.service("cards")
    pods = space.wait_pods(DEATHS, app="cards")
    before, since = space.policies(), lab.audit_log.stat().st_size
    ringfence = Ringfence(lab, tmp_path, responders[0].kubeconfig)
    ringfence.configure("containment", serving_floor=0, token_canary=False)
    ringfence.run("incidents")  # makes the store
    for pod in pods:
        contain = ("contain", f"pod/{pod}", "-n", space.name, "--accept-outage", "--reason", "a crash test")
        killed(ringfence, chance.uniform(0.5, 4.0), *contain)
        incident = seen_to_its_end(ringfence, pod, "containing", *contain)
        assert space.fence_of(pod)
        killed(ringfence, chance.uniform(0.5, 4.0), "eradicate", incident)
        seen_to_its_end(ringfence, pod, "eradicating", "eradicate", incident)
        space.wait_gone(pod)
        assert len(ringfence.events(incident, "evidence.sealed")) == 1
        assert len(ringfence.events(incident, "run.started")) == 2
        results = {e["audit_id"]: e["outcome"]["kind"] for e in ringfence.events(incident, "change.result")}
        check_changes(lab, since, results)
    assert space.policies() == before


# --- a process that dies at a moment --------------------------------------------------------------------------------


def lived(home: Home, orders: tuple[Order, ...], trouble: Trouble, name: str) -> int:
    forks = multiprocessing.get_context("forkserver")
    forks.set_forkserver_preload(["tests.crash.preload"])
    record = home.folder / f"{name}.moments"
    process = forks.Process(target=driver.run, args=(home, orders, trouble, record, True))
    process.start()
    process.join(120)
    assert process.exitcode is not None, record.with_suffix(".out").read_text()
    return process.exitcode


def test_death_at_recorded_moments(lab: Lab, space: Space, office: Office, tmp_path: Path) -> None:
    # The crash tests' own configuration opts into seeing tokens in Secrets.
    kubeconfig = str(office.appoint("mo", settings={"identity": {"legacy_tokens": True}}).kubeconfig)
    space.workload("cards", DEATHS + 1)
    space.service("cards")
    pods = space.wait_pods(DEATHS + 1, app="cards")
    before, since = space.policies(), lab.audit_log.stat().st_size

    def installed(pod: str) -> tuple[Home, tuple[Order, ...]]:
        folder = tmp_path / pod
        folder.mkdir()
        orders = (Order("contain", target=f"pod/{pod}"), Order("eradicate"))
        return Home(folder, kubeconfig, namespace=space.name), orders

    home, orders = installed(pods[0])
    assert lived(home, orders, Trouble(), "undisturbed") == 0
    moments = states(driver.read_moments(home.folder / "undisturbed.moments"))
    # Spread over the whole of it, and not the edges: there nothing has begun, or all is over.
    for number, pod in enumerate(pods[1:], start=1):
        moment = moments[number * len(moments) // (DEATHS + 1)]
        home, orders = installed(pod)
        assert lived(home, orders, Trouble(at=moment), "first") == DIED, moment
        assert lived(home, orders, Trouble(), "second") == 0, (home.folder / "second.out").read_text()
        space.wait_gone(pod)
        check(lab, home, since)
    assert space.policies() == before


def check(lab: Lab, home: Home, since: int) -> None:
    store = open_store(f"sqlite:///{home.database}")
    try:
        with store.read() as session:
            incident = incidents.get(session, INCIDENT)
            timeline.read(session, INCIDENT)
            assert [run.state.value for run in runs.of_incident(session, INCIDENT)] == ["done", "done"]
            assert len(evidence.seals(session, INCIDENT)) == 1
            key = load_or_create(home.folder / "seal.pem").public_key
            assert [*unresolved(session, incident), *bundles(session, incident, home, key)] == []
            events = [entry.event for entry in timeline.read(session, INCIDENT)]
            results = {e.audit_id: e.outcome.kind for e in events if e.type == "change.result"}
    finally:
        store.close()
    check_changes(lab, since, results)
