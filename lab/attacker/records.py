"""What the attacker's host saw, read back: one JSON object per line of ``requests.jsonl``.

Every record has ``t`` (seconds since the epoch, UTC, when it arrived), ``time`` (the same, RFC 3339) and ``kind``:

=========  ==========================================================================================================
kind       further fields
=========  ==========================================================================================================
host       pid, address, port: the host listens from now on
stage      source: a victim fetched the agent
beacon     attack, pod, source, connection, sent, cause: a new connection. ``cause`` is ``interval`` (a short one),
           ``flow`` (the long-lived one's first) or ``reconnect`` (the long-lived one was lost and opened anew)
flow       attack, pod, source, connection, sent, n: heartbeat ``n`` on the long-lived connection
scan       attack, pod, source, answered, asked: the neighbours (``HOST:PORT``) that accepted a connection
token      attack, pod, source, bytes: the pod's own token arrived (kept in ``tokens/ATTACK``, mode 0600)
api        attack, request (``configmaps`` or ``whoami``), status (HTTP code or null), user, token_pod, error, ms:
           the host itself used the stolen token
dns        source, name: a DNS query over UDP arrived
quit       attack, pod, source: the agent was told to end
other      source, text: a connection or message that is none of the above (start of it, as text)
=========  ==========================================================================================================

``connection`` is the host's number for one TCP connection, ``sent`` the agent's own clock, ``source`` is ``HOST:PORT``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from lab.attacker import host
from lab.layout import Lab

Record = host.Record


def records(lab: Lab, *, kind: str = "", attack: str = "", since: float = 0.0) -> Iterator[Record]:
    """The records so far, oldest first; of one kind, of one attack, not older than ``since`` (epoch seconds)."""
    file = lab.attacker / host.FILE
    if not file.exists():
        return
    with file.open() as lines:
        for line in lines:
            if not line.endswith("\n"):
                return  # Still being written.
            record = json.loads(line)
            if (
                record["t"] >= since
                and (not kind or record["kind"] == kind)
                and (not attack or record.get("attack") == attack)
            ):
                yield record


def last(lab: Lab, kind: str, attack: str = "") -> Record | None:
    """The newest record of a kind, or None."""
    newest = None
    for record in records(lab, kind=kind, attack=attack):
        newest = record
    return newest
