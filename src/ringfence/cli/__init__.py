"""The command line: thin. It parses, calls, prints and sets the exit code; it decides nothing."""

from __future__ import annotations


def main() -> None:
    """Console script ``ringfence``."""
    import atexit
    import gc
    import sys

    gc.set_threshold(200_000, 20, 100)  # importing makes much that lives on, and nothing to collect
    atexit.register(gc.freeze)  # nor is there at the end: the memory goes back as a whole
    from ringfence.cli.commands import run
    from ringfence.cli.text import typed

    sys.argv[1:] = map(typed, sys.argv[1:])
    run()
