"""One JSON object per line on standard output, as log collectors expect it."""

from __future__ import annotations

import json
import os
import sys
import threading
from datetime import UTC, datetime

LEVELS = ("debug", "info", "warning", "error")

_lock = threading.Lock()
_service = "?"


def name_service(name: str) -> None:
    """Sets the ``service`` field of every line from now on."""
    global _service
    _service = name


def pod_name() -> str:
    """The pod this process runs in; outside Kubernetes the machine's name."""
    return os.environ.get("POD_NAME") or os.uname().nodename


def write(level: str, message: str, **fields: object) -> None:
    """A line with ``ts`` (RFC 3339, UTC), ``level``, ``service``, ``pod``, ``msg`` and the given fields.

    Levels below ``$LOG_LEVEL`` (info) are left out. JSON escapes control characters, so a caller's text can neither
    end the line nor start another one.
    """
    if LEVELS.index(level) < LEVELS.index(os.environ.get("LOG_LEVEL", "info")):
        return
    now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    entry = {"ts": now, "level": level, "service": _service, "pod": pod_name(), "msg": message, **fields}
    line = json.dumps(entry) + "\n"
    with _lock:
        sys.stdout.write(line)
        sys.stdout.flush()
