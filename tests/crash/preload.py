"""What a process of these tests needs, imported once: the fork server starts each of them with all of it there."""

from __future__ import annotations

import alembic.config
import dbos
import lightkube
import sqlalchemy.dialects.sqlite

import ringfence.cli.run_commands
import ringfence.durable.engine
import ringfence.evidence.collect
import ringfence.playbooks.cel
import ringfence.response.stages
import tests.crash.driver

__all__ = ["alembic", "dbos", "lightkube", "ringfence", "sqlalchemy", "tests"]
