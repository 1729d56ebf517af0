"""``python -m bench.contain``: what Ringfence adds to its own requests, one victim at a time and a hundred at once.

The requests of one ``contain`` (read, dry run, cut, read back, evidence, statement) are recorded. The limit is the same
requests, put on other victims, sent bare over the same warm connections, those beside each other that Ringfence sent
beside each other. Against it stands ``contain`` end to end, through its durable engine, journal and vault.

In a burst the limit is the same recorded requests for each victim, with 16 connections. Ringfence reads what victims
share only once there, so a second share says how it stands against the very requests that it sent for all of them.

Prints one JSON object as its last line: milliseconds of both, their ratio at p50 (target: at most 2), and the
throughput of a burst as a share of the bare one (target: at least 0.5).
"""

from __future__ import annotations

import argparse
import secrets
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from bench.ground import (
    Ground,
    Recorded,
    Recording,
    ground,
    idle_pod,
    print_result,
    recording,
    replay,
    send,
    spread,
    swapper,
    timed,
)
from lab.layout import DEFAULT_NAME
from ringfence.model.outcome import is_done
from ringfence.response import verbs
from ringfence.response.results import Result
from ringfence.response.verbs import Wish

MOST_ROUNDS = 200
MOST_BURST = 150
CONNECTIONS = 16


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.contain", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=30, help="victims one at a time (default: %(default)s)")
    parser.add_argument("--burst", type=int, default=100, help="victims at once (default: %(default)s)")
    parser.add_argument("--name", default=DEFAULT_NAME, help="the lab (default: %(default)s)")
    arguments = parser.parse_args()
    rounds, burst = min(arguments.rounds, MOST_ROUNDS), min(arguments.burst, MOST_BURST)
    with ground(arguments.name) as place, ThreadPoolExecutor(CONNECTIONS) as pool:
        first, single = one_at_a_time(place, pool, rounds)
        together = at_once(place, pool, burst, first)
    print_result({"bench": "contain", "rounds": rounds, **single, "burst": together})
    return 0


@dataclass(frozen=True)
class Victim:
    """One victim's response, with its requests in their order."""

    name: str
    result: Result
    levels: list[list[Recorded]]


def one_at_a_time(place: Ground, pool: ThreadPoolExecutor, rounds: int) -> tuple[Victim, dict[str, object]]:
    make(place, [f"{kind}-{n}" for n in range(rounds) for kind in ("ours", "bare")] + ["warm-0", "warm-1", "first-0"])
    for name in ("warm-0", "warm-1"):
        contain(place, name)
    with recording(place.context) as found:
        first = contain(place, "first-0")
    levels = found.levels()
    ours, bare = [], []
    for n in range(rounds):
        ours.append(timed(partial(contain, place, f"ours-{n}")))
        swap = swapper(other(place, first, ["first-0"], [f"bare-{n}"]))
        bare.append(timed(partial(replay, place.context, levels, swap, pool)))
    result: dict[str, object] = {
        "requests": len(found.requests),
        "bare_ms": spread(bare),
        "ringfence_ms": spread(ours),
    }
    result["ratio_p50"] = round(spread(ours)["p50"] / spread(bare)["p50"], 2)
    return Victim("first-0", first, levels), result


def at_once(place: Ground, pool: ThreadPoolExecutor, burst: int, one: Victim) -> dict[str, object]:
    ours, bare, each = ([f"{kind}-{n}" for n in range(burst)] for kind in ("burst", "swarm", "each"))
    make(place, [*ours, *bare, *each])
    found = Recording()
    done: list[Result] = []

    def all_of_them() -> None:
        with recording(place.context) as heard:
            done.append(contain(place, *ours))
        found.requests = heard.requests

    took = timed(all_of_them)
    swap = swapper(other(place, done[0], ours, bare))
    first, rest = found.requests[:1], found.requests[1:]
    own = timed(lambda: replay(place.context, [first, rest], swap, pool))
    swaps = [swapper(other(place, one.result, [one.name], [name])) for name in each]
    limit = timed(lambda: list(pool.map(partial(send_one_by_one, place, one), swaps)))
    return {
        "victims": burst,
        "requests": sum(map(len, one.levels)) * burst,
        "bare_per_second": round(burst / limit * 1000, 1),
        "ringfence_per_second": round(burst / took * 1000, 1),
        "share": round(limit / took, 2),
        "own_requests": len(found.requests),
        "share_of_own": round(own / took, 2),
    }


def send_one_by_one(place: Ground, one: Victim, swap: Callable[[str], str]) -> None:
    """A victim's requests over one of the connections: the others carry those of other victims meanwhile."""
    for request in (request for level in one.levels for request in level):
        send(place.context, request, swap)


def make(place: Ground, names: list[str]) -> None:
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        list(pool.map(lambda name: place.kube.apply(idle_pod(place.namespace, name)), names))


def contain(place: Ground, *names: str) -> Result:
    result = verbs.contain(place.context, place.conductor, place.find(*names), Wish(reason="bench"))
    undone = [step for step in result.steps if step.action == "network.quarantine" and not is_done(step.outcome)]
    if undone or not result.seals:
        raise SystemExit(f"{names[0]}: {undone or result.evidence_problem or 'not sealed'}")
    return result


def other(place: Ground, first: Result, old: list[str], new: list[str]) -> dict[str, str]:
    """Names, uids and the fence of the recorded victims, each with another's."""
    by_name = {one.ref.name: one.ref for one in place.find(*new)}
    uids = {target.name: target.uid for target in first.run.targets}
    pairs = {first.incident.fence: secrets.token_hex(8)}
    for before, after in zip(old, new, strict=True):
        pairs |= {before: after, uids[before]: by_name[after].uid}
    return pairs


if __name__ == "__main__":
    sys.exit(main())
