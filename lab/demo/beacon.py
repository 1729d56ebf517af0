"""``make demo``: a real cluster, a bank, an attack, and Ringfence's response to it, live; then what it came to.

Exit code 0 only if new traffic stopped, the other pods kept serving, the seal verifies, and nothing was destroyed
before it.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from lab import attack, bank, client, lifecycle
from lab.demo.common import (
    Json,
    Place,
    attackers_view,
    deliver,
    destroyed_before_seal,
    heading,
    prepare,
    query,
    ringfence,
    rows,
    seconds_to_cut,
    verify,
    words,
)
from lab.layout import Lab

CALM_SECONDS = 3.0
ATTACK_SECONDS = 4.0
QUIET_SECONDS = 6.0
"""How long the attacker's host is watched for new connections after the cut: 60 times the beacon's interval."""
LONGEST_OUTAGE_SECONDS = 3.0
"""A request that was under way to the victim may wait for its time-out of 2 s; nobody may wait longer."""


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
