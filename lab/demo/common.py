"""What the scenarios share: where they write, Ringfence as a user runs it, and what others saw meanwhile."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from lab import attack, attacker
from lab.errors import LabError
from lab.layout import Lab

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


# --- Ringfence, as a user runs it ------------------------------------------------------
def prepare(lab: Lab, place: Place, more: Mapping[str, Json] | None = None) -> None:
    """An empty folder with a configuration; ``more`` goes over it, section by section."""
    shutil.rmtree(place.out, ignore_errors=True)
    place.state.mkdir(parents=True)
    state = place.state.resolve()
    config = {
        "cluster": {"kubeconfig": str(lab.kubeconfig)},
        "store": {"url": f"sqlite:///{state / 'ringfence.db'}"},
        "vault": {"path": str(state / "vault")},
        "signing": {"key": str(state / "seal.pem")},
        **(more or {}),
    }
    place.config.write_text(json.dumps(config, indent=1) + "\n")  # JSON is YAML


def program(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


def ringfence(place: Place, *arguments: str, code: int = 0) -> None:
    """Run a command with its output on the terminal. It has to end with that exit code."""
    print("$ ringfence " + " ".join(f'"{word}"' if " " in word else word for word in arguments), flush=True)
    done = subprocess.run([program("ringfence"), *arguments, "--config", str(place.config)], check=False)
    if done.returncode != code:
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


def heading(text: str) -> None:
    print(f"\n== {text}", flush=True)


def rows(status: Json) -> list[Json]:
    return [{key: row[key] for key in ("path", "state", "level", "why")} for row in status["rows"]]
