"""The command line: thin. It parses, calls, prints and sets the exit code; it decides nothing."""

from __future__ import annotations


def main() -> None:
    """Console script ``ringfence``."""
    from ringfence.cli.commands import run

    run()
