"""``ringfence node INC collect``: what lies on the node about a suspect, sealed with what the API shows of it."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace

from ringfence.errors import EvidenceError, RingfenceError, StoreError, TargetError, Unanswered
from ringfence.evidence.acquire import Acquirer, What
from ringfence.model.base import Json
from ringfence.model.evidence import Collected, EvidenceItem
from ringfence.model.incident import Incident
from ringfence.model.node_helper import NodeOrder
from ringfence.model.objects import ObjectRef
from ringfence.model.outcome import Failed, Problem
from ringfence.platform.kubernetes import node_helpers
from ringfence.response import capture, node_helper
from ringfence.response.context import Context
from ringfence.response.node_order import Done

_VOLATILITY = {"processes": 1, "sockets": 1, "deleted": 2, "layers": 4, "volumes": 3, "logs": 5}
"""By the first word of an item's name; after RFC 3227, section 2.1."""
_KEY = "node"
_METHOD = "node helper: read on the node from outside the pod, nothing of its image executed"


def collect_all(context: Context, incident: Incident, *, only: str, say: Callable[[str], None]) -> tuple[Done, ...]:
    """Collect and seal every pod of the incident, or the named one. Raises Guarded, TargetError, StoreError."""
    node_helper.require_on(context, incident)
    found = [ref for ref in node_helper.pods_of(context, incident) if only in ("", ref.name)]
    if not found:
        raise TargetError(f"{incident.id} is about no pod {only}".rstrip(), next_step=f"ringfence status {incident.id}")
    done = []
    for target in found:
        say(f"collect: {target}")
        done.append(_collect(context, incident, target, say))
    return tuple(done)


def _collect(context: Context, incident: Incident, target: ObjectRef, say: Callable[[str], None]) -> Done:
    for left in capture.seal_left(context, incident, target, _KEY):
        if isinstance(left, EvidenceError):
            say(f"collect: {target}: what was recorded before cannot be sealed: {left}")
        else:
            say(f"collect: {target}: {left.id} has what was recorded before, and was not sealed then")
    acquirer = context.acquirer(incident)
    items: list[EvidenceItem] = []

    def read(lines: Iterator[Json]) -> Json:
        return _read(acquirer, target, lines, items)

    done = node_helper.order_one(context, incident, target, NodeOrder.COLLECT, read=read)
    if done.report is None:
        return done
    if not done.report.done:
        what = What("node/collection", "node.collection", str(target), _METHOD, 1)
        items.append(acquirer.missing(what, Collected.FAILED, done.report.why))
    try:
        seal = capture.recapture(context, incident, target, key=capture.key_of(_KEY, target), extra=items)
    except StoreError:
        raise
    except RingfenceError as error:
        return replace(done, outcome=Failed(problem=Problem.of(error)))
    return replace(done, seal=f"{seal.id}: {seal.collected} of {seal.items} items in {seal.path}")


def _read(acquirer: Acquirer, target: ObjectRef, lines: Iterator[Json], items: list[EvidenceItem]) -> Json:
    """Every item of the stream; its last line, which is the result. Raises HelperOutputError, PlatformError."""
    for line in lines:
        if "result" in line:
            return line
        begun = node_helpers.part(line, 0)
        if not begun.begin:
            raise node_helpers.HelperOutputError("what the node helper wrote has data outside of any item")
        items += acquirer.stream(_what(begun.begin, begun.media, target), lambda: _opened(lines, begun.begin))  # noqa: B023
    return {}


@contextlib.contextmanager
def _opened(lines: Iterator[Json], name: str) -> Iterator[Iterator[bytes]]:
    yield _data(lines, name)


def _data(lines: Iterator[Json], name: str) -> Iterator[bytes]:
    """The raw bytes of one item, checked against the hash that was taken on the node."""
    digest, size = hashlib.sha256(), 0
    for number, line in enumerate(lines):
        if "result" in line:
            raise _broken(name, "the helper's time was up")
        part = node_helpers.part(line, number)
        if part.end:
            if (part.end, part.sha256, part.size) != (name, digest.hexdigest(), size):
                raise _broken(name, "what came is not what was read on the node: hash or size differ")
            if part.why:
                raise _broken(name, part.why)
            return
        if part.begin:
            raise _broken(name, "it has no end")
        digest.update(part.data)
        size += len(part.data)
        yield part.data
    raise _broken(name, "the helper's log broke off")


def _broken(name: str, why: str) -> Unanswered:
    return Unanswered(f"{name} is not whole", system="node-helper", verb="collect", target=name, why=why)


def _what(name: str, media: str, target: ObjectRef) -> What:
    first = name.partition("/")[0].partition(".")[0]
    return What(
        id=f"node/{name}",
        kind=f"node.{first}",
        source=f"the node of {target}: {name}",
        method=_METHOD,
        volatility=_VOLATILITY.get(first, 5),
        media_type=media,
    )
