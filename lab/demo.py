"""``make demo``: a real cluster, a bank, an attack, and Ringfence's response to it, live; then what it came to.

Everything that is printed was measured in this run: the attacker's side by the attacker's own host, the customers' side
by a client that called the bank all the while, the response by Ringfence's timeline and the API server's audit log.
Exit code 0 only if new traffic stopped, the other pods kept serving, the seal verifies, and nothing was destroyed
before it.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from lab import attack, attacker, bank, client, lifecycle
from lab.errors import LabError
from lab.layout import DEFAULT_NAME, Lab

CALM_SECONDS = 3.0
ATTACK_SECONDS = 4.0
QUIET_SECONDS = 6.0
"""How long the attacker's host is watched for new connections after the cut: 60 times the beacon's interval."""
LONGEST_OUTAGE_SECONDS = 3.0
"""A request that was under way to the victim may wait for its time-out of 2 s; nobody may wait longer."""

Json = dict[str, Any]


@dataclass(frozen=True)
class Place:
    """Where the demo writes. ``state`` holds Ringfence's store, vault and key."""

    out: Path

    @property
    def config(self) -> Path:
        return self.out / "ringfence.yaml"

    @property
    def state(self) -> Path:
        return self.out / "state"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m lab.demo", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--name", default=DEFAULT_NAME, help="the lab (default: %(default)s)")
    parser.add_argument(
        "--out", type=Path, default=Path("out/demo"), help="folder of the results (default: %(default)s)"
    )
    arguments = parser.parse_args(argv)
    try:
        return run(arguments.name, Place(arguments.out))
    except LabError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


@dataclass(frozen=True)
class Observed:
    """What was seen while the demo ran: Ringfence's own words, the attacker's host's and the customers'."""

    began: float
    contained: Json
    attacker_after_contain: Json
    eradicated: Json
    attacker_after_eradicate: Json
    calls: list[client.Call]


def run(name: str, place: Place) -> int:
    heading("1. A real Kubernetes, a small bank")
    lab = lifecycle.up(name)
    bank.reset(lab)
    prepare(lab, place)
    with client.Customer(bank.gateway_url(lab)) as customer:
        time.sleep(CALM_SECONDS)
        seen = attack_and_respond(lab, place, customer)
    attack.stop(lab)
    heading("5. Evidence and report")
    bundle = deliver(place)
    summary = summarise(place, lab, seen, bundle, verify(place, bundle))
    (place.out / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
    return report(place, summary)


def attack_and_respond(lab: Lab, place: Place, customer: client.Customer) -> Observed:
    heading("2. An attack through the bank's front door")
    hostile = attack.beacon(lab)
    print(f"pod {hostile.pod} is hostile: it beacons to {lab.attacker_address} every 100 ms, holds a connection")
    print("open, scans its neighbours, and has sent out its own token, which works against the API server.")
    time.sleep(ATTACK_SECONDS)
    heading("3. Ringfence cuts it off while it stays alive, and seals the evidence")
    began = time.time()
    ringfence(place, "contain", f"pod/{hostile.pod}", "-n", bank.NAMESPACE, "--reason", "beacons to a strange host")
    time.sleep(QUIET_SECONDS)
    contained = query(place, "status", "INC-1", "-o", "json")
    still_open = attackers_view(lab, hostile, began)
    print(f"\nthe attacker's host, {QUIET_SECONDS:.0f} s later: {words(still_open)}")
    heading("4. Eradicate: delete the sealed suspect, show that its token is dead")
    ringfence(place, "eradicate", "INC-1")
    time.sleep(2.0)
    eradicated = query(place, "status", "INC-1", "-o", "json")
    closed = attackers_view(lab, hostile, began)
    print(f"\nthe attacker's host now: {words(closed)}")
    customer.stop()
    return Observed(began, contained, still_open, eradicated, closed, customer.calls)


# --- Ringfence, as a user runs it ------------------------------------------------------
def prepare(lab: Lab, place: Place) -> None:
    shutil.rmtree(place.out, ignore_errors=True)
    place.state.mkdir(parents=True)
    state = place.state.resolve()
    config = {
        "cluster": {"kubeconfig": str(lab.kubeconfig)},
        "store": {"url": f"sqlite:///{state / 'ringfence.db'}"},
        "vault": {"path": str(state / "vault")},
        "signing": {"key": str(state / "seal.pem")},
    }
    place.config.write_text(json.dumps(config, indent=1) + "\n")  # JSON is YAML


def program(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


def ringfence(place: Place, *arguments: str) -> None:
    """Run a command with its output on the terminal."""
    print("$ ringfence " + " ".join(f'"{word}"' if " " in word else word for word in arguments), flush=True)
    done = subprocess.run([program("ringfence"), *arguments, "--config", str(place.config)], check=False)
    if done.returncode != 0:
        raise LabError(f"ringfence {arguments[0]} ended with {done.returncode}")


def query(place: Place, *arguments: str) -> Json:
    done = subprocess.run(
        [program("ringfence"), *arguments, "--config", str(place.config)], check=False, capture_output=True, text=True
    )
    if done.returncode != 0:
        raise LabError(f"ringfence {' '.join(arguments)} ended with {done.returncode}: {done.stderr.strip()}")
    answer: Json = json.loads(done.stdout)
    return answer


def deliver(place: Place) -> Path:
    ringfence(place, "report", "INC-1", "--out", str(place.out))
    ringfence(place, "evidence", "export", "INC-1", str(place.out / "evidence"))
    return next((place.out / "evidence").glob("*.tar"))


def verify(place: Place, bundle: Path) -> bool:
    key = place.out / "evidence" / "seal.pub.pem"
    print(f"$ ringfence-verify {bundle} --key {key}", flush=True)
    return subprocess.run([program("ringfence-verify"), str(bundle), "--key", str(key)], check=False).returncode == 0


# --- what the others saw ---------------------------------------------------------------
def attackers_view(lab: Lab, hostile: attack.Attack, since: float) -> Json:
    """What reached the attacker's host: the last new connection, whether the old flow and the token still work."""
    new = [r["t"] for r in attacker.records(lab, kind="beacon", attack=hostile.attack)]
    new += [r["t"] for r in attacker.records(lab, kind="scan", attack=hostile.attack)]
    flow = attacker.last(lab, "flow", hostile.attack)
    calls = [r for r in attacker.records(lab, kind="api", attack=hostile.attack) if r["status"] is not None]
    now = time.time()
    return {
        "seconds_to_last_new_request": round(max([0.0, *(t - since for t in new)]), 3),
        "seconds_since_last_new_request": round(now - max(new), 3),
        "old_flow_alive": flow is not None and now - flow["t"] < 1.0,
        "token_status": calls[-1]["status"] if calls else None,
        "token_works": bool(calls) and calls[-1]["status"] < 300 and now - calls[-1]["t"] < 3.0,
    }


def words(view: Json) -> str:
    flow = "the old connection LIVES" if view["old_flow_alive"] else "the old connection is dead"
    token = "WORKS" if view["token_works"] else "is refused"
    silence = view["seconds_since_last_new_request"]
    return f"no new connection for {silence:.1f} s; {flow}; the stolen token {token} ({view['token_status']})"


def destroyed_before_seal(place: Place, lab: Lab) -> list[str]:
    """Deletions of pods by Ringfence before its first seal, by the API server's own audit log."""
    timeline = json.loads((place.out / "timeline.json").read_text())
    sealed = min(moment(e["event"]["occurred_at"]) for e in timeline if e["event"]["type"] == "evidence.sealed")
    ours = {e["event"]["audit_id"] for e in timeline if e["event"]["type"] == "change.intended"}
    found = []
    with lab.audit_log.open() as lines:
        for line in lines:
            if '"verb":"delete"' not in line:
                continue
            event = json.loads(line)
            dry = "dryRun" in event.get("requestURI", "") or "dryRun" in json.dumps(event.get("requestObject") or {})
            if (
                event.get("auditID") in ours
                and event.get("objectRef", {}).get("resource") == "pods"
                and not dry
                and moment(event["requestReceivedTimestamp"]) < sealed
            ):
                found.append(event["objectRef"]["name"])
    return found


def seconds_to_cut(place: Place, began: float) -> float:
    """From the moment the command was typed to the server's answer to the request that cut."""
    timeline = json.loads((place.out / "timeline.json").read_text())
    cut = next(
        e["event"] for e in timeline if e["event"]["type"] == "change.result" and e["event"]["change"] == "detach"
    )
    return moment(cut["answered_at"]) - began


def moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


# --- the sum ---------------------------------------------------------------------------
def summarise(place: Place, lab: Lab, seen: Observed, bundle: Path, verified: bool) -> Json:
    felt = client.summarise(seen.calls)
    seal = seen.eradicated["evidence"]["seal"]
    return {
        "seconds_to_cut": round(seconds_to_cut(place, seen.began), 3),
        "seconds_to_last_new_request": seen.attacker_after_contain["seconds_to_last_new_request"],
        "verdict_after_contain": seen.contained["verdict"],
        "rows_after_contain": rows(seen.contained),
        "attacker_after_contain": seen.attacker_after_contain,
        "verdict": seen.eradicated["verdict"],
        "rows": rows(seen.eradicated),
        "attacker_after_eradicate": seen.attacker_after_eradicate,
        "customer_requests": felt.requests,
        "customer_failures": felt.failures,
        "customer_longest_outage_seconds": round(felt.longest_outage, 3),
        "customer_errors": dict(Counter(call.error for call in seen.calls if not call.ok).most_common(5)),
        "evidence_items": seal["collected"],
        "bundle": str(bundle),
        "bundle_sha256": seal["bundle_sha256"],
        "seal_verified": verified,
        "destroyed_before_seal": destroyed_before_seal(place, lab),
    }


def rows(status: Json) -> list[Json]:
    return [{key: row[key] for key in ("path", "state", "level", "why")} for row in status["rows"]]


def report(place: Place, summary: Json) -> int:
    """Print what it came to. Returns the exit code."""
    first, last = summary["attacker_after_contain"], summary["attacker_after_eradicate"]
    checks = {
        "new traffic stopped": first["seconds_since_last_new_request"] > QUIET_SECONDS / 2,
        "the other pods kept serving": summary["customer_longest_outage_seconds"] < LONGEST_OUTAGE_SECONDS,
        "the seal verifies": summary["seal_verified"],
        "nothing was destroyed before the seal": not summary["destroyed_before_seal"],
        "the old connection is dead after eradicate": not last["old_flow_alive"],
        "the stolen token is refused after eradicate": not last["token_works"],
    }
    heading("What it came to")
    print(f"seconds to the cut                       {summary['seconds_to_cut']:.2f} (from typing the command)")
    print(f"seconds to the attacker's last new try   {summary['seconds_to_last_new_request']:.2f} (as its host saw it)")
    print(f"after contain                            {summary['verdict_after_contain']}")
    for row in summary["rows_after_contain"]:
        print(f"  {row['state']:<8} {row['level']:<9} {row['path']}")
    print(f"after eradicate                          {summary['verdict']}")
    for row in summary["rows"]:
        print(f"  {row['state']:<8} {row['level']:<9} {row['path']}")
    requests, failures = summary["customer_requests"], summary["customer_failures"]
    share = 100 * (requests - failures) / requests if requests else 0.0
    outage = summary["customer_longest_outage_seconds"]
    print(
        f"customers                                {requests} requests, {failures} failed ({share:.2f} % good),",
        end=" ",
    )
    print(f"longest wait for a good answer {outage:.2f} s")
    for error, times in summary["customer_errors"].items():
        print(f"  {times} x {error}")
    print(f"evidence                                 {summary['evidence_items']} items, sealed in {summary['bundle']}")
    print(f"report                                   {place.out / 'report.html'}, {place.out / 'report.md'}")
    print()
    for name, holds in checks.items():
        print(f"{'yes' if holds else 'NO '}  {name}")
    print()
    print("try next:")
    prefix = f"RINGFENCE_CONFIG={place.config}"
    for command in ("status INC-1 -o wide", "timeline INC-1", "evidence list INC-1"):
        print(f"  {prefix} .venv/bin/ringfence {command}")
    return 0 if all(checks.values()) else 1


def heading(text: str) -> None:
    print(f"\n== {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
