"""``docs/reference/configuration.md``: every key with its type and default, from the configuration's own model."""

from __future__ import annotations

import os
import types
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin
from unittest import mock

import annotated_types
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from ringfence import config
from scripts.reference.text import code, doc, document, table

EXAMPLE = """\
cluster:
  context: prod-eu
  timeout_seconds: 15
store:
  url: sqlite:////srv/ringfence/ringfence.db
vault:
  path: /srv/ringfence/vault
signing:
  key: /srv/ringfence/keys/seal.pem
containment:
  serving_floor: 2
  seal_max_age_seconds: 600
protected:
  namespaces: [kube-system, kube-public, kube-node-lease, ringfence, payments-core]
contacts:
  - role: incident commander
    name: duty manager
    reach: extension 4711
notify:
  to:
    - name: duty-phone
      url_file: /run/secrets/duty-phone
      for: [incident commander]
    - name: security-channel
      url_file: /run/secrets/security-channel
      for: [cut-failed, fence-changed]
      min_severity: high
"""
_NAMES = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "true or false",
    Path: "path",
    SecretStr: "text, a secret",
}

_NOTHING = {"cluster": "kubectl's", "actions": "all"}
"""What a key that is left out means, where it is not simply nothing."""
_PATTERNS = {"^http": "an http or https address", "^[a-z0-9]": "a DNS label", "^[A-Za-z0-9]": "a short name"}
"""How a pattern begins, and the words for it."""


def page() -> str:
    sections = config.Config.model_fields
    return document(
        "Configuration",
        "One YAML file. None of it is needed: every key has a default. An unknown key is an error that names the file "
        "and the key, and every wrong key is named at once.",
        "Looked for in this order; the first that is named wins:",
        "1. `--config FILE`\n2. `RINGFENCE_CONFIG=FILE`\n"
        "3. `$XDG_CONFIG_HOME/ringfence/config.yaml`, by default `~/.config/ringfence/config.yaml`",
        "A key may be set in the environment as well: `RINGFENCE_`, the section, two underscores, the key; a list as "
        "JSON (`RINGFENCE_CONTACTS`). The environment wins over the file, and `--kubeconfig` and `--context` win over "
        "both.",
        f"```yaml\n{EXAMPLE}```",
        "Defaults below `~/.local/state` move with `XDG_STATE_HOME`. `~` is your home folder; in `store.url` write it "
        "out, a URL has no such thing.",
        *(_section(name, field) for name, field in sections.items()),
    )


def _section(name: str, field: FieldInfo) -> str:
    model = _model(field.annotation)
    listed = get_origin(field.annotation) is tuple
    inner = {key: part for key, member in model.model_fields.items() if (part := _part(member.annotation))}
    rows, nested = [], []
    for key, member in model.model_fields.items():
        if key in inner:
            continue
        shown = member.alias or key
        rows.append(
            (
                code(f"{name}[].{shown}" if listed else f"{name}.{shown}"),
                _type(member),
                "required" if member.is_required() else _default(name, member),
                "" if listed else code(f"RINGFENCE_{name.replace('.', '__')}__{shown}".upper()),
            )
        )
        if _is_list_of_sections(member.annotation):
            nested.append(_section(f"{name}.{shown}", member))
    heading = f"## {name}" + (" (a list)" if listed else "")
    section = f"{heading}\n\n{doc(model)}\n\n" + table(("key", "type", "default", "environment"), rows)
    nested += [_section(f"{name}.{key}", FieldInfo(annotation=inner[key])) for key in inner]
    return "\n\n".join((section.rstrip("\n"), *nested)) if nested else section


def _part(annotation: Any) -> type[BaseModel] | None:
    """A section within a section, which may be left out."""
    candidates = get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else ()
    return next((one for one in candidates if isinstance(one, type) and issubclass(one, BaseModel)), None)


def _is_list_of_sections(annotation: Any) -> bool:
    inner = get_args(annotation)[0] if get_origin(annotation) is tuple else None
    return isinstance(inner, type) and issubclass(inner, BaseModel)


def _model(annotation: Any) -> type[BaseModel]:
    found: type[BaseModel] = get_args(annotation)[0] if get_origin(annotation) is tuple else annotation
    return found


def _type(field: FieldInfo) -> str:
    return ", ".join(filter(None, (_name(field.annotation), *map(_bound, field.metadata))))


def _name(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        return " or ".join(_name(one) for one in arguments if one is not types.NoneType)
    if origin is tuple:
        return "list" if _is_list_of_sections(annotation) else f"list of {_name(arguments[0])}"
    if origin is Literal:
        return " or ".join(map(code, arguments))
    if isinstance(annotation, type) and issubclass(annotation, StrEnum):
        return " or ".join(code(one.value) for one in annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "sections"
    return _NAMES[annotation]


def _bound(limit: object) -> str:
    match limit:
        case annotated_types.Gt(gt=value):
            return f"more than {value}"
        case annotated_types.Ge(ge=value):
            return f"at least {value}"
        case annotated_types.Le(le=value):
            return f"at most {value}"
        case annotated_types.MinLen(min_length=value):
            return "not empty" if value == 1 else f"at least {value} long"
        case annotated_types.MaxLen(max_length=value):
            return f"{value} at most"
        case _ if (pattern := getattr(limit, "pattern", None)) is not None:
            return next(words for start, words in _PATTERNS.items() if pattern.startswith(start))
    raise ValueError(f"no words for {limit!r}")


def _default(section: str, field: FieldInfo) -> str:
    # Defaults that lie in the home folder are shown as such, whoever runs this.
    with mock.patch.dict(os.environ, {"XDG_STATE_HOME": "~/.local/state"}):
        value = field.get_default(call_default_factory=True)
    match value:
        case None:
            return _NOTHING.get(section, "none")
        case bool():
            return code(str(value).lower())
        case tuple():
            return ", ".join(map(code, value))
    return code(value)
