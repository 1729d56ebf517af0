"""``python -m bench.contain``: what Ringfence adds to its own requests, one victim at a time and a hundred at once.

The requests of one ``contain`` (read, dry run, cut, read back, evidence, statement) are recorded. The limit is the same
requests, put on other victims, sent bare over the same warm connections, those beside each other that Ringfence sent
beside each other. Against it stands ``contain`` end to end, through its durable engine, journal and vault.

Prints one JSON object as its last line: milliseconds of both, their ratio at p50 (target: at most 2), and the
throughput of a burst as a share of the bare one with 16 connections (target: at least 0.5).
"""

from __future__ import annotations

import argparse
import secrets
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from bench.ground import Ground, Recording, ground, idle_pod, print_result, recording, replay, spread, swapper, timed
from lab.layout import DEFAULT_NAME
from ringfence.response import steps, verbs
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
        single = one_at_a_time(place, pool, rounds)
        together = at_once(place, pool, burst)
    print_result({"bench": "contain", "rounds": rounds, **single, "burst": together})
    return 0


def one_at_a_time(place: Ground, pool: ThreadPoolExecutor, rounds: int) -> dict[str, object]:
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
    return result


def at_once(place: Ground, pool: ThreadPoolExecutor, burst: int) -> dict[str, object]:
    ours, bare = [f"burst-{n}" for n in range(burst)], [f"swarm-{n}" for n in range(burst)]
    make(place, ours + bare)
    found = Recording()
    done: list[Result] = []

    def all_of_them() -> None:
        with recording(place.context) as heard:
            done.append(contain(place, *ours))
        found.requests = heard.requests

    took = timed(all_of_them)
    swap = swapper(other(place, done[0], ours, bare))
    first, rest = found.requests[:1], found.requests[1:]
    limit = timed(lambda: replay(place.context, [first, rest], swap, pool))
    return {
        "victims": burst,
        "requests": len(found.requests),
        "bare_per_second": round(burst / limit * 1000, 1),
        "ringfence_per_second": round(burst / took * 1000, 1),
        "share": round(limit / took, 2),
    }


def make(place: Ground, names: list[str]) -> None:
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        list(pool.map(lambda name: place.kube.apply(idle_pod(place.namespace, name)), names))


def contain(place: Ground, *names: str) -> Result:
    result = verbs.contain(place.context, place.conductor, place.find(*names), Wish(reason="bench"))
    undone = [step for step in result.steps if step.action == "network.quarantine" and not steps.is_done(step.outcome)]
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
