"""``python -m lab.demo [SCENARIO]``: everything that is printed was measured in this run.

The attacker's side by the attacker's own host, the customers' side by a client that called the bank all the while, the
response by Ringfence's timeline and the API server's audit log.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from lab.demo import beacon, stolen_token
from lab.demo.common import Place
from lab.errors import LabError
from lab.layout import DEFAULT_NAME

SCENARIOS = {"beacon": beacon.run, "stolen-token": stolen_token.run}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m lab.demo", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("scenario", nargs="?", default="beacon", help=f"{', '.join(SCENARIOS)} (default: beacon)")
    parser.add_argument("--name", default=DEFAULT_NAME, help="the lab (default: %(default)s)")
    parser.add_argument(
        "--out", type=Path, default=Path("out/demo"), help="folder of the results (default: %(default)s)"
    )
    arguments = parser.parse_args(argv)
    if arguments.scenario not in SCENARIOS:
        print(f"error: there is no scenario {arguments.scenario!r}: {', '.join(SCENARIOS)}", file=sys.stderr)
        return 2
    try:
        return SCENARIOS[arguments.scenario](arguments.name, Place(arguments.out))
    except LabError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
