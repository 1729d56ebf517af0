"""``python -m scripts.packages``: the Debian packages that tests outside the lab need. Nothing is started by it."""

from __future__ import annotations

import sys

from lab import packages
from lab.errors import LabError

FOR_TESTS = {"/usr/lib/postgresql/*/bin/pg_ctl": "postgresql"}
"""The store and the engine run on Postgres too: a server of the tests' own, on a socket of its own."""


def main() -> int:
    try:
        packages.ensure(FOR_TESTS)
    except LabError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
