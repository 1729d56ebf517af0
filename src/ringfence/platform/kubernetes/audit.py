"""What the cluster's own audit log says of one of our requests: a bounded look into a file of JSON lines.

The log (audit.k8s.io/v1 events, as kube-apiserver writes them with ``--audit-log-path``) is a second witness beside
live state. It is read from its end, ``MAX_BYTES`` at most; the file that was rotated away last (``audit-TIME.log``)
comes before it. An Audit-ID alone proves nothing, as any caller may send one: a line counts when the verb, the object
and the user are ours as well.
"""

from __future__ import annotations

import glob
import json
import os
import stat
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from ringfence.model.objects import ObjectRef
from ringfence.platform.kubernetes.resources import resource_of

MAX_BYTES = 64 << 20
"""How much of the log is read; at 1 KB a line, the last 60,000 requests or so."""
_DEED_BYTES = 8 << 20
_CHUNK = 1 << 20
_LONGEST_LINE = 8 << 20


def audit_says(
    path: Path, audit_id: str, *, verb: str = "", ref: ObjectRef | None = None, user: str = ""
) -> bool | None:
    """Whether the request of that Audit-ID was carried out: True (answered with 2xx), False (refused with 4xx).

    None: the log cannot be read, does not know it (yet, or not any more), or has it with an answer that decides nothing
    (5xx, a panic). Of several answers under one id (a request that was throttled first) one that was carried out
    decides. ``verb`` (create, patch, delete), ``ref`` and ``user`` (the user name that the cluster knows us by) narrow
    it down to our own request.
    """
    if not audit_id:
        return None
    refused, room = False, MAX_BYTES
    for file in (path, *_rotated(path)):
        for line in _lines_with(file, audit_id.encode(), room):
            code = _code(line, audit_id, verb, ref, user)
            if 200 <= code < 300:
                return True
            refused = refused or 400 <= code < 500
        room -= _size(file)
    return False if refused else None


def _code(line: bytes, audit_id: str, verb: str, ref: ObjectRef | None, user: str) -> int:
    """The status of the answer that the line tells of; 0 when it tells of something else."""
    try:
        event: Any = json.loads(line)
        ours = event["auditID"] == audit_id and event["stage"] == "ResponseComplete"
        if verb:
            ours = ours and event["verb"] == verb
        if user:
            ours = ours and event["user"]["username"] == user and "impersonatedUser" not in event
        if ref is not None:
            place = event["objectRef"]
            expected = (resource_of(ref).plural, ref.namespace, ref.name)
            ours = ours and (place["resource"], place.get("namespace", ""), place.get("name", "")) == expected
        code = event["responseStatus"]["code"]
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return 0
    return code if ours and type(code) is int else 0


def _rotated(path: Path) -> list[Path]:
    """The file that ``path`` was before it was rotated; none when there is none."""
    try:
        return sorted(path.parent.glob(f"{glob.escape(path.stem)}-*{glob.escape(path.suffix)}"))[-1:]
    except OSError:
        return []


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _lines_with(path: Path, wanted: bytes, room: int) -> Iterator[bytes]:
    """Whole lines that contain ``wanted``, the last one first, of the last ``room`` bytes. Nothing when the file cannot
    be read."""
    try:
        # A pipe in its place must not stop us: only a file has an end to read from.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return
    try:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            return
        position, least = found.st_size, max(0, found.st_size - max(0, room))
        head = b""  # the beginning of a line whose rest is in the chunk before
        while position > least:
            size = min(_CHUNK, position - least)
            position -= size
            block = os.pread(handle, size, position) + head
            head, newline, whole = block.partition(b"\n")
            if not newline and len(head) > _LONGEST_LINE:
                return
            if wanted in whole:
                yield from (line for line in reversed(whole.split(b"\n")) if wanted in line)
        if position == 0 and wanted in head:
            yield head
    except OSError:
        return
    finally:
        os.close(handle)


class Deed(NamedTuple):
    """A request that was carried out on an object, as the audit log has it."""

    user: str
    verb: str
    subresource: str
    audit_id: str
    at: str


_CHANGING = frozenset({"create", "update", "patch", "delete", "deletecollection"})


def last_deed(path: Path, ref: ObjectRef, *, not_by: str, since: datetime, deletion: bool) -> Deed | None:
    """The last request since then that changed (or with ``deletion``: deleted, evicted) the object, by another user
    than ``not_by``. None when the log cannot be read, or has none in its last 8 MiB.

    A status that a controller or kubelet writes is no change here.
    """
    for line in _lines_with(path, f'"{ref.name}"'.encode(), _DEED_BYTES):
        try:
            event: Any = json.loads(line)
            place = event["objectRef"]
            at = str(event.get("requestReceivedTimestamp") or event["stageTimestamp"])
            if datetime.fromisoformat(at.replace("Z", "+00:00")) < since:
                return None
            user, verb, sub = str(event["user"]["username"]), str(event["verb"]), str(place.get("subresource") or "")
            fits = (
                event["stage"] == "ResponseComplete"
                and 200 <= int(event["responseStatus"]["code"]) < 300
                and verb in _CHANGING
                and sub != "status"
                and "dryRun=" not in str(event.get("requestURI", ""))
                and (place["resource"], place.get("namespace", ""), place.get("name", ""))
                == (resource_of(ref).plural, ref.namespace, ref.name)
                and user != not_by
            )
            ends = verb.startswith("delete") or (verb, sub) == ("create", "eviction")
            if fits and (ends or not deletion):
                return Deed(user, verb, sub, str(event["auditID"]), at)
        except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
            continue
    return None
