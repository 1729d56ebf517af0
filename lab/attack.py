"""``python -m lab attack``: turns a running cards pod hostile, says what the attacker still gets, and ends it.

The attack comes in by the front door, from the attacker's host through the gateway, and changes no object of the
cluster: the pod's specification stays as it was, which is what makes it an incident and not a rollout.
"""

from __future__ import annotations

import argparse
import json
import secrets
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lab import attacker, bank
from lab.attacker import exploit
from lab.errors import LabError
from lab.kube import Kube, wait_until
from lab.layout import Lab

ARRIVAL_SECONDS = 20.0
QUIT_SECONDS = 3.0
# Tries to be routed to the wanted one of the replicas: with two of them, 40 misses in a row do not happen.
PLANT_TRIES = 40
KILL_TRIES = 12
SHOWN_KINDS = ("beacon", "flow", "scan", "token", "api")


@dataclass(frozen=True)
class Attack:
    """One attack: its id, the victim, the agent's PID in the container, and when it began and ends at the latest
    (epoch seconds)."""

    attack: str
    pod: str
    uid: str
    namespace: str
    address: str
    pid: int
    started: float
    ends: float


def main(lab: Lab, argv: list[str]) -> int:
    """The command line. Returns the exit code.

    Raises:
        LabError: the attack did not work, or there is nothing to say about it.
    """
    arguments = _parser().parse_args(argv)
    match arguments.command:
        case "beacon":
            attack = beacon(lab, arguments.pod)
            _print(arguments.output, {**asdict(attack), **first_signs(lab, attack.attack)}, _beacon_text)
        case "status":
            _print(arguments.output, {"attacks": status(lab)}, _status_text)
        case "stop":
            stopped = stop(lab)
            _print(arguments.output, {"attacks": stopped}, _stop_text)
            return 0 if all(entry["ended"] for entry in stopped) else 1
    return 0


def beacon(lab: Lab, pod: str = "") -> Attack:
    """Plants the agent in one running cards pod (any, or the one named) and waits for its first signs: a beacon, a
    heartbeat, and the stolen token's use.

    Raises:
        LabError: the pod is not there or not reached through the gateway, or no sign arrived within 20 s.
    """
    attacker.start(lab)
    running = {entry["metadata"]["name"]: entry for entry in _pods(lab, "app=cards")}
    if pod and pod not in running:
        raise LabError(f"there is no cards pod {pod}: choose from {', '.join(sorted(running)) or 'none'}")
    attack_id = secrets.token_hex(4)
    started = time.time()
    port, lifetime = attacker.BEACON_PORT, attacker.LIFETIME
    expression = exploit.plant(attack_id, lab.attacker_address, port, lifetime, pod)
    victim, pid = _evaluated(lab, expression, PLANT_TRIES)
    if victim not in running:
        _mark(lab, "quit", attack_id).touch()
        raise LabError(f"pod {victim} answered, which was not there a moment ago; the attack was called off: try again")
    metadata, address = running[victim]["metadata"], running[victim]["status"].get("podIP", "")
    attack = Attack(attack_id, victim, metadata["uid"], bank.NAMESPACE, address, int(pid), started, started + lifetime)
    with (lab.attacker / "attacks.jsonl").open("a") as file:
        file.write(json.dumps(asdict(attack)) + "\n")
    wait_until(
        lambda: all(attacker.last(lab, kind, attack_id) for kind in ("beacon", "flow", "api")),
        ARRIVAL_SECONDS,
        f"beacon, heartbeat and token use of attack {attack_id} from {victim} (is its egress to TCP 443 cut?)",
    )
    return attack


def first_signs(lab: Lab, attack: str) -> dict[str, Any]:
    """When the attack was first heard of (epoch seconds), and whom the API server took the attacker for."""
    first = {kind: next(attacker.records(lab, kind=kind, attack=attack), None) for kind in ("beacon", "flow")}
    asked = next((entry for entry in attacker.records(lab, kind="api", attack=attack) if entry["user"]), None)
    return {
        "first_beacon": first["beacon"] and first["beacon"]["t"],
        "first_flow": first["flow"] and first["flow"]["t"],
        "token_user": asked and asked["user"],
    }


def attacks(lab: Lab) -> list[Attack]:
    """Every attack of this lab so far, oldest first."""
    file = lab.attacker / "attacks.jsonl"
    return [Attack(**json.loads(line)) for line in file.read_text().splitlines()] if file.exists() else []


def status(lab: Lab) -> list[dict[str, Any]]:
    """For each attack: counts of records by kind, the newest record of each, and whether it was told to end."""
    found = []
    for attack in attacks(lab):
        counts = dict.fromkeys(SHOWN_KINDS, 0)
        newest: dict[str, attacker.Record] = {}
        for record in attacker.records(lab, attack=attack.attack):
            counts[record["kind"]] = counts.get(record["kind"], 0) + 1
            newest[record["kind"]] = record
        found.append(
            {
                **asdict(attack),
                "counts": counts,
                "last": newest,
                "ended": "quit" in newest or _mark(lab, "ended", attack.attack).exists(),
            }
        )
    return found


def stop(lab: Lab) -> list[dict[str, Any]]:
    """Ends all attacks: their agents are told so, those that do not listen are killed through the hole they came by,
    and the stolen tokens are no longer used. Returns each attack that was not over yet, with ``ended`` and ``ends``;
    an agent that is cut off from both ends by its own deadline.
    """
    now = time.time()
    still_on = [entry for entry in status(lab) if not entry["ended"] and entry["ends"] > now]
    for entry in still_on:
        _mark(lab, "quit", entry["attack"]).touch()
    deadline = time.monotonic() + QUIT_SECONDS
    ended: set[str] = set()
    while time.monotonic() < deadline and len(ended) < len(still_on):
        time.sleep(0.1)
        ended = {entry["attack"] for entry in still_on if attacker.last(lab, "quit", entry["attack"])}
    alive = {pod["metadata"]["uid"] for pod in _pods(lab)} if len(ended) < len(still_on) else set()
    for entry in still_on:
        entry["ended"] = entry["attack"] in ended or entry["uid"] not in alive or _kill(lab, entry)
        if entry["ended"]:
            _mark(lab, "ended", entry["attack"]).touch()
    return still_on


def _mark(lab: Lab, kind: str, attack: str) -> Path:
    """The file that marks an attack: ``quit`` (the host tells the agent to end) or ``ended`` (it is over)."""
    folder = lab.attacker / kind
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder / attack


def _kill(lab: Lab, entry: dict[str, Any]) -> bool:
    try:
        _evaluated(lab, exploit.kill(entry["pid"], entry["pod"]), KILL_TRIES)
    except LabError:
        return False
    return True


def _evaluated(lab: Lab, expression: str, tries: int) -> tuple[str, str]:
    """Sends an expression until the pod that it is meant for has evaluated it. Returns that pod and the result."""
    gateway = bank.gateway_url(lab)
    for _ in range(tries):
        answer = exploit.send(lab, gateway, expression)
        if answer is None:
            time.sleep(0.2)
        elif answer[1] != exploit.ELSEWHERE:
            return answer
    raise LabError(
        f"the cards service did not evaluate it in {tries} tries through {gateway}: the wanted pod is not behind the"
        " gateway any more, or the bank does not answer (python -m lab status)"
    )


def _pods(lab: Lab, labels: str = "") -> list[dict[str, Any]]:
    kube = Kube.of(lab)
    try:
        return kube.list("v1", "Pod", bank.NAMESPACE, labels=labels)
    finally:
        kube.close()


# --- the command line ------------------------------------------------------------
def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m lab attack", description="Play the attacker of the lab's bank.")
    commands = parser.add_subparsers(dest="command", required=True)
    described = {
        "beacon": "turn one running cards pod hostile (for 15 minutes at most) and wait for its first signs",
        "status": "say what each attack sent and last got",
        "stop": "end all attacks",
    }
    for name, text in described.items():
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("-o", "--output", choices=("text", "json"), default="text")
        if name == "beacon":
            command.add_argument("--pod", default="", metavar="NAME", help="which cards pod (default: any)")
    return parser


def _print(output: str, content: dict[str, Any], as_text: Callable[[dict[str, Any]], str]) -> None:
    print(json.dumps(content, indent=2) if output == "json" else as_text(content), flush=True)


def _beacon_text(content: dict[str, Any]) -> str:
    return (
        f"attack {content['attack']}: pod {content['namespace']}/{content['pod']} ({content['address']}) is hostile\n"
        f"  uid    {content['uid']}\n"
        f"  token  the API server answers the attacker as {content['token_user']}\n"
        f"  ends   {_clock(content['ends'])} at the latest"
    )


def _status_text(content: dict[str, Any]) -> str:
    if not content["attacks"]:
        return "no attack so far"
    now = time.time()
    lines = []
    for entry in content["attacks"]:
        over = entry["ended"] or entry["ends"] < now
        lines.append(f"attack {entry['attack']} on {entry['namespace']}/{entry['pod']}: {'over' if over else 'on'}")
        for kind in SHOWN_KINDS:
            newest = entry["last"].get(kind)
            age = f"last {now - newest['t']:.1f} s ago" if newest else "never"
            lines.append(f"  {kind:<8}{entry['counts'][kind]:>6}  {age}{_detail(newest)}")
    return "\n".join(lines)


def _detail(record: attacker.Record | None) -> str:
    match record:
        case {"kind": "api", "status": status, "error": error}:
            return f": {status or error}"
        case {"kind": "scan", "answered": list() as answered}:
            return f": {len(answered)} neighbours answered"
    return ""


def _stop_text(content: dict[str, Any]) -> str:
    if not content["attacks"]:
        return "no attack is on"
    return "\n".join(
        f"attack {entry['attack']} on {entry['namespace']}/{entry['pod']}: "
        + ("ended" if entry["ended"] else f"its agent cannot be reached; it ends by itself at {_clock(entry['ends'])}")
        for entry in content["attacks"]
    )


def _clock(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%H:%M:%S UTC")
