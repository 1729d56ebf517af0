"""``--help`` is there at once: what is slow to import is imported by the command that needs it."""

from __future__ import annotations

import subprocess
import sys

SLOW = ("pydantic", "sqlalchemy", "alembic", "lightkube", "httpx2", "dbos", "yaml", "jinja2", "cryptography", "asyncio")


def test_the_command_line_imports_nothing_slow() -> None:
    """A time would depend on the machine; what is imported does not."""
    program = f"import sys, ringfence.cli.commands; print([name for name in {SLOW!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")
