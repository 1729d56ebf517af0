"""A plan as kubectl commands, for the night when Ringfence itself is down (pure).

The same requests with the same preconditions. Nothing of the cluster is read by a shell as anything but an argument or
a document: names and patches are quoted, objects are JSON in ASCII behind a quoted end mark, comments are one line.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from typing import assert_never

from ringfence.cli.text import clean
from ringfence.errors import TargetError
from ringfence.model.base import Json
from ringfence.model.objects import ObjectRef
from ringfence.model.plan import Change, Plan, Verb
from ringfence.platform.kubernetes.resources import Resource, resource_of

_MANAGER = "--field-manager=ringfence"
_END = "RINGFENCE_END"


def commands(plan: Plan) -> str:
    """The plan as a block to paste into a shell. It stops at the first command that fails and must not be passed over.

    Unlike Ringfence it keeps no journal, saves no prior state and seals no evidence: the block says so. Raises
    TargetError for a name that cannot be typed.
    """
    for change in plan.changes:
        _check(change.ref)
    lines = [
        f"# {clean(f'{plan.action} on {plan.target}')}, plan {plan.sha256()[:12]}",
        "# No journal is kept and no evidence is sealed by these commands: save the objects and the logs first.",
        "( set -e",
    ]
    for number, change in enumerate(plan.changes, start=1):
        lines.append(f"# {number}. {clean(change.effect)}")
        lines += _command(change)
    return "\n".join([*lines, ")"])


def _check(ref: ObjectRef) -> None:
    """A quoted control character is an argument to a shell, and an order to the terminal that shows it."""
    for name in (ref.namespace, ref.name):
        if not name.isascii() or not name.isprintable():
            raise TargetError(
                f"{clean(ref)} cannot be named in a command",
                why="its name has characters that cannot be typed",
                next_step="ringfence contain does not need to type it",
            )


def _command(change: Change) -> Iterator[str]:
    resource = resource_of(change.ref)
    otherwise = "" if change.needed else " || echo 'not done, and not needed for what follows' >&2"
    match change.verb:
        case Verb.CREATE:
            yield from _document(f"kubectl create {_MANAGER} -f -", change.body, otherwise)
        case Verb.PATCH:
            words = ["kubectl", "patch", _name(resource, change), *_where(resource, change), "--type=json", _MANAGER]
            if change.subresource:
                words.append(f"--subresource={change.subresource}")
            yield shlex.join([*words, "-p", _json(change.body)]) + otherwise
        case Verb.DELETE:
            # kubectl's own delete knows no precondition: another object that has the name by now would die.
            path = resource.path(change.ref.namespace, change.ref.name)
            yield from _document(f"kubectl delete --raw {shlex.quote(path)} -f -", _options(change), otherwise)
        case _:
            assert_never(change.verb)


def _document(command: str, body: Json, otherwise: str) -> Iterator[str]:
    # A line of JSON in ASCII begins with a brace, a bracket, a quote or a space: none is the end mark.
    yield f"{command} <<'{_END}'{otherwise}"
    yield from json.dumps(body, indent=1, ensure_ascii=True).splitlines()
    yield _END


def _options(change: Change) -> Json:
    options: Json = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": change.ref.uid}}
    if change.grace_seconds is not None:
        options["gracePeriodSeconds"] = change.grace_seconds
    return options


def _name(resource: Resource, change: Change) -> str:
    """``plural.version.group/name``: no kind of the same name in another group is meant, and no name is an option."""
    group, _, version = resource.api_version.rpartition("/")
    kind = f"{resource.plural}.{version}.{group}" if group else resource.plural
    return f"{kind}/{change.ref.name}"


def _where(resource: Resource, change: Change) -> list[str]:
    return ["-n", change.ref.namespace] if resource.namespaced else []


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=True, separators=(",", ":"))
