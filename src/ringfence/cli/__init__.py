"""The command line: thin. It parses, calls, prints and sets the exit code; it decides nothing."""

from __future__ import annotations


def main() -> None:
    """Console script ``ringfence``."""
    import sys

    collect_seldom()
    from ringfence.cli.commands import run
    from ringfence.cli.text import typed

    sys.argv[1:] = map(typed, sys.argv[1:])
    run()


def collect_seldom() -> None:
    """What is imported, and what the API server answers, is much that lives on and hardly a circle: to look for circles
    after every few hundred objects is time lost. So it is at the end, where the memory goes back as a whole."""
    import atexit
    import gc

    gc.set_threshold(200_000, 20, 100)
    atexit.register(gc.freeze)
