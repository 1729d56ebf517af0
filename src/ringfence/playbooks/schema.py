"""The playbook's schema as data: what the reference page and its snapshot test are made of."""

from __future__ import annotations

from ringfence.model.base import Json
from ringfence.model.catalogue import CATALOGUE, StepType
from ringfence.playbooks import cel, tree
from ringfence.playbooks.document import MAX_STEPS, Document


def schema() -> Json:
    """``document``: the JSON Schema of a file. ``actions``: what steps are made of, each with the JSON Schema of its
    ``with``. ``when``: what a condition may ask for and use. ``limits``: in bytes, levels and numbers."""
    return {
        "document": Document.model_json_schema(by_alias=True),
        "actions": {name: _action(kind) for name, kind in CATALOGUE.items()},
        "when": {
            "variables": {
                name: [f"{name}.{field}" for field in fields] or [f"{name}.ID.{member}" for member in cel.OF_STEP]
                for name, fields in cel.VARIABLES.items()
            },
            "operators": ["==", "!=", "<", "<=", ">", ">=", "&&", "||", "!", "in", "?:", "[]", "."],
            "functions": list(cel.FUNCTIONS),
            "methods": list(cel.METHODS),
            "macros": list(cel.MACROS),
        },
        "limits": {
            "file_bytes": tree.MAX_BYTES,
            "file_levels": tree.MAX_DEPTH,
            "steps": MAX_STEPS,
            "when_bytes": cel.MAX_LENGTH,
            "when_tokens": cel.MAX_TOKENS,
            "when_brackets": cel.MAX_BRACKETS,
            "when_comprehensions": cel.MAX_COMPREHENSIONS,
            "when_list_items": cel.MAX_ITEMS,
            "when_text_characters": cel.MAX_TEXT,
        },
    }


def _action(kind: StepType) -> Json:
    return {
        "title": kind.title,
        "scope": kind.scope.value,
        "destructive": kind.destructive,
        "waits": kind.waits,
        "with": kind.params.model_json_schema(),
    }
