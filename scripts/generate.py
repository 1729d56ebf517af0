"""``python -m scripts.generate``: write the reference pages that follow from the code; ``--check`` only compares.

A test compares them as well (tests/docs/test_docs.py), so a page that is not the code's fails the build.
"""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Callable
from pathlib import Path

from scripts.reference import actions, cli, configuration, events, exit_codes, playbooks

REFERENCE = Path(__file__).parent.parent / "docs" / "reference"

PAGES: dict[str, Callable[[], str]] = {
    "actions.md": actions.page,
    "cli.md": cli.page,
    "configuration.md": configuration.page,
    "events.md": events.page,
    "exit-codes.md": exit_codes.page,
    "playbooks.md": playbooks.page,
}


def main(argv: list[str] | None = None) -> int:
    """Returns 1 when ``--check`` finds a page that differs."""
    parser = argparse.ArgumentParser(prog="python -m scripts.generate", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--check", action="store_true", help="write nothing; show how the pages differ from the code")
    check = parser.parse_args(argv).check
    stale = 0
    for name, page in PAGES.items():
        path, text = REFERENCE / name, page()
        found = path.read_text(encoding="utf-8") if path.exists() else ""
        if found == text:
            continue
        stale += 1
        if check:
            lines = difflib.unified_diff(found.splitlines(), text.splitlines(), str(path), "generated", lineterm="")
            print("\n".join(lines))
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            print(f"wrote {path.relative_to(REFERENCE.parent.parent)}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
