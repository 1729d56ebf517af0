"""``docs/reference/playbooks.md``: the file's schema, the catalogue of steps, conditions, limits, and the library."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ringfence.model.playbook import Playbook, Reaction, Reactions, Step
from ringfence.playbooks import builtin_names, find, load, schema
from scripts.reference.text import code, document, prose, table

Json = dict[str, Any]

_TYPES = {"string": "text", "integer": "whole number", "boolean": "true or false", "object": "mapping"}
_UNITS = {
    "file_bytes": "bytes of a file",
    "file_levels": "levels of nesting in a file",
    "steps": "steps",
    "when_bytes": "bytes of a condition",
    "when_tokens": "words and marks of a condition",
    "when_brackets": "brackets inside each other",
    "when_comprehensions": "comprehensions inside each other",
    "when_list_items": "items of a list, and values of a variable",
    "when_text_characters": "characters of a value that a condition reads",
}
_MEANING = {
    "apiVersion": "",
    "kind": "",
    "metadata": "",
    "metadata.name": "the name of the file without `.yaml`; a DNS label",
    "metadata.title": "one line",
    "metadata.description": "what it is for, in a few sentences",
    "spec": "",
    "spec.incident": "what is declared when the target belongs to no open incident",
    "spec.incident.type": "a DNS label",
    "spec.incident.severity": "",
    "spec.targets": "what it may be started on; one at least",
    "spec.steps": "in the order in which they run; one at least",
    "spec.steps[].id": "a DNS label, once in the file; the journal and the timeline name the step by it",
    "spec.steps[].title": "one line",
    "spec.steps[].action": "one of the [steps](#steps)",
    "spec.steps[].phase": "the part of the response that it belongs to; phases stand in this order",
    "spec.steps[].with": "the action's parameters, see [steps](#steps)",
    "spec.steps[].when": "a [condition](#conditions); left out: always",
    "spec.steps[].on": "what follows a step that was not done: `stop` passes that target over from there on",
    "spec.steps[].on.refused": "a guardrail, a gate or admission said no",
    "spec.steps[].on.failed": "it failed, or its outcome is unknown",
    "spec.steps[].on.skipped": "there was nothing to do it to, or nobody asked for it",
}
"""What each limit counts, and what each member is. One without words here is a KeyError, and the test of the docs
fails."""


def page() -> str:
    known = schema()
    return document(
        "Playbooks",
        "The format of a playbook's file, the steps that it can be made of, and the playbooks of the library. How to "
        "write one: [write a playbook](../tasks/write-a-playbook.md). What the engine holds whatever a playbook says: "
        "[guardrails](../concepts/guardrails.md).",
        "## File",
        "One YAML document in UTF-8, with the core schema of YAML 1.2: `on` and `yes` are words. Anchors, aliases, "
        "tags, directives, double keys and invisible characters are mistakes. So is every key that is not below. All "
        "mistakes are said at once, each with its line.",
        table(("member", "type", "default", "meaning"), _members(known["document"], known["document"], "")),
        "## Steps",
        "The actions of the catalogue. There are no others: a playbook reaches neither a shell nor a file, neither an "
        "environment variable nor a host. The last column is the step's `with`.",
        table(
            ("action", "what it does", "runs on", "kind", "`with`"),
            [
                (code(name), kind["title"], kind["scope"].replace("-", " "), _kind(kind), _with(kind["with"]))
                for name, kind in known["actions"].items()
            ],
        ),
        *_params(known["actions"]),
        "*Destructive*: something dies that cannot come back, and the evidence gate stands before it. *Waits*: the run "
        "ends there and goes on when a person has decided.",
        "## Conditions",
        "`when` is an expression in a small part of CEL. A step whose condition does not hold is skipped; one whose "
        "condition cannot be told has failed.",
        table(
            ("part", "allowed"),
            [
                ("variables", ", ".join(code(path) for paths in known["when"]["variables"].values() for path in paths)),
                *((name, _codes(known["when"][name])) for name in ("operators", "functions", "methods", "macros")),
            ],
        ),
        "`ID` is the id of an earlier step; one with a dash is written `steps['seal-pod'].outcome`. `outcome` is the "
        "first that was not done, of all targets; `on_target` that of the very target that is asked about, and "
        "`skipped` where the step did not run on it. Outcomes are "
        "`applied`, `already`, `skipped`, `refused`, `failed`, `unknown`. No arithmetic, maps, regular expressions or "
        "conversions.",
        "## Limits",
        table(("at most", "of"), [(f"{number:,}", _UNITS[name]) for name, number in known["limits"].items()]),
        "## The library",
        *(_playbook(load(*find(name))) for name in builtin_names()),
    )


# --- the file --------------------------------------------------------------------------
def _members(root: Json, part: Json, prefix: str) -> Iterator[tuple[str, str, str, str]]:
    required = set(part.get("required") or ())
    for name, given in part["properties"].items():
        member = _resolved(root, given)
        path = f"{prefix}{name}"
        default = "required" if name in required else _default(given)
        inner = _resolved(root, member["items"]) if member.get("type") == "array" else member
        yield code(path), _type(root, member), default, _MEANING[path]
        if "properties" in inner:
            below = f"{path}[]." if member.get("type") == "array" else f"{path}."
            yield from _members(root, inner, below)


def _resolved(root: Json, part: Json) -> Json:
    found: Json = root["$defs"][part["$ref"].rpartition("/")[2]] if "$ref" in part else part
    return found


def _default(part: Json) -> str:
    value = part.get("default")
    return code(value) if isinstance(value, str) and value else ""


def _type(root: Json, part: Json) -> str:
    if "const" in part:
        return code(part["const"])
    if "enum" in part:
        return _codes(part["enum"])
    if "anyOf" in part:
        return next(_type(root, one) for one in part["anyOf"] if one.get("type") != "null")
    if part.get("type") == "array":
        inner = _resolved(root, part["items"])
        return "list of mappings" if "properties" in inner else f"list of {_type(root, inner)}"
    if part.get("properties"):
        return "mapping"
    return _TYPES[part["type"]] + (f", {part['maxLength']} characters at most" if "maxLength" in part else "")


def _codes(values: Any) -> str:
    return ", ".join(map(code, values))


# --- the steps -------------------------------------------------------------------------
def _kind(kind: Json) -> str:
    return ", ".join(word for word in ("destructive", "waits") if kind[word]) or "–"


def _with(model: Json) -> str:
    return _codes(model.get("properties") or {}) or "–"


def _params(actions: Json) -> Iterator[str]:
    rows = []
    for name, kind in actions.items():
        required = set(kind["with"].get("required") or ())
        for key, member in (kind["with"].get("properties") or {}).items():
            default = "required" if key in required else code(member.get("default"))
            rows.append((code(name), code(key), _bounded(member), default))
        if kind["with"].get("properties"):
            yield f"{code(name)}: {prose(kind['with']['description'])}"
    yield table(("action", "key", "value", "default"), rows)


def _bounded(member: Json) -> str:
    if "enum" in member:
        return _codes(member["enum"])
    words = [_TYPES[member["type"]]]
    if "minimum" in member:
        words.append(f"{member['minimum']} to {member['maximum']}")
    if "maxLength" in member:
        words.append(f"{member['maxLength']} characters at most")
    return ", ".join(words)


# --- the library -----------------------------------------------------------------------
def _playbook(playbook: Playbook) -> str:
    return "\n\n".join(
        (
            f"### {playbook.name}",
            playbook.description,
            f"Starts on {', '.join(playbook.targets)}. Declares {code(playbook.incident.type)}, "
            f"{playbook.incident.severity}, when the target belongs to no open incident.",
            table(
                ("step", "action", "phase", "what it does", "when it was not done"),
                [
                    (code(step.id), code(step.action), step.phase, step.title + _given(step), _reactions(step.on))
                    for step in playbook.steps
                ],
            ),
        )
    )


def _given(step: Step) -> str:
    said = [f"{name}: {value}" for name, value in step.params.items() if name != "reason"]
    condition = f"; only when {code(step.when)}" if step.when else ""
    return (f" ({', '.join(said)})" if said else "") + condition


def _reactions(on: Reactions) -> str:
    going_on = [name for name in ("refused", "failed") if getattr(on, name) is Reaction.CONTINUE]
    stopping = ["skipped"] if on.skipped is Reaction.STOP else []
    words = [f"{' or '.join(going_on)}: goes on"] if going_on else []
    words += [f"{name}: stops" for name in stopping]
    return "; ".join(words) or "stops"
