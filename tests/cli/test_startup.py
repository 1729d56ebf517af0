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


NOT_FOR_LOOKING = (
    *("pydantic_settings", "alembic", "dbos", "zstandard", "cryptography", "jinja2", "rich"),
    *("ringfence.actions.registry", "ringfence.evidence.acquire", "ringfence.seal.atrest"),
)


def test_a_command_that_only_looks_imports_neither_what_acts_nor_what_seals() -> None:
    """What ``status`` imports before it asks the cluster; nothing here is set in the environment."""
    program = (
        "import sys\n"
        "from ringfence import app\n"
        "from ringfence.cli import views\n"
        "from ringfence.config import Config\n"
        "import ringfence.platform.kubernetes.client, ringfence.platform.kubernetes.identity\n"
        "app.policy(Config()); app.vault(Config())\n"
        f"print([name for name in {NOT_FOR_LOOKING!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")
