"""Runbooks as data: a strict loader, a linter, conditions with limits. A playbook reaches nothing but the catalogue."""

from ringfence.playbooks.cel import Expression, compile_expression, evaluate
from ringfence.playbooks.errors import CelError, Mistake, PlaybookError
from ringfence.playbooks.library import builtin, builtin_names, find
from ringfence.playbooks.lint import Finding, lint, require_clean
from ringfence.playbooks.load import load
from ringfence.playbooks.schema import schema

__all__ = [
    "CelError",
    "Expression",
    "Finding",
    "Mistake",
    "PlaybookError",
    "builtin",
    "builtin_names",
    "compile_expression",
    "evaluate",
    "find",
    "lint",
    "load",
    "require_clean",
    "schema",
]
