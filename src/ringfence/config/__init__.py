"""The configuration: one YAML file, every key known, every default usable.

Looked for in ``--config``, ``$RINGFENCE_CONFIG``, ``~/.config/ringfence/config.yaml``; none of them is needed. Keys may
be set in the environment too (``RINGFENCE_VAULT__PATH``). An unknown key is an error that names file and key.
"""

import os
import re
from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ringfence.config.sections import (
    ActionsSection,
    AuditSection,
    CanarySection,
    CheckpointSection,
    ClusterSection,
    Contact,
    ContainmentSection,
    EvidenceSection,
    GuardrailsSection,
    IdentitySection,
    NodeHelperSection,
    NotifySection,
    ObservabilitySection,
    ProtectedSection,
    Receiver,
    RecoverySection,
    S3Section,
    SigningSection,
    StoreSection,
    VaultSection,
    WatchSection,
)
from ringfence.config.trust import AnchorSection, DisclosureSection
from ringfence.errors import ConfigError
from ringfence.model.page import PageKind

__all__ = [
    "ActionsSection",
    "AnchorSection",
    "AuditSection",
    "CanarySection",
    "CheckpointSection",
    "ClusterSection",
    "Config",
    "Contact",
    "ContainmentSection",
    "DisclosureSection",
    "EvidenceSection",
    "GuardrailsSection",
    "IdentitySection",
    "NodeHelperSection",
    "NotifySection",
    "ObservabilitySection",
    "ProtectedSection",
    "Receiver",
    "RecoverySection",
    "S3Section",
    "SigningSection",
    "StoreSection",
    "VaultSection",
    "WatchSection",
    "default_path",
    "load",
]


PREFIX = "RINGFENCE_"
"""Begins the names of the environment's variables."""
_FILE = "RINGFENCE_CONFIG"


def _made_by_checking() -> Any:
    """What a section that the file lacks is made from: nothing, by the checks of the whole (``validate_default``). A
    section that was made by itself would have checks of its own built first, each start."""
    return {}


class Config(BaseModel):
    """The whole file."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    cluster: ClusterSection = Field(default_factory=_made_by_checking)
    store: StoreSection = Field(default_factory=_made_by_checking)
    vault: VaultSection = Field(default_factory=_made_by_checking)
    evidence: EvidenceSection = Field(default_factory=_made_by_checking)
    signing: SigningSection = Field(default_factory=_made_by_checking)
    anchor: AnchorSection = Field(default_factory=_made_by_checking)
    disclosure: DisclosureSection = Field(default_factory=_made_by_checking)
    containment: ContainmentSection = Field(default_factory=_made_by_checking)
    identity: IdentitySection = Field(default_factory=_made_by_checking)
    guardrails: GuardrailsSection = Field(default_factory=_made_by_checking)
    recovery: RecoverySection = Field(default_factory=_made_by_checking)
    protected: ProtectedSection = Field(default_factory=_made_by_checking)
    actions: ActionsSection = Field(default_factory=_made_by_checking)
    canary: CanarySection = Field(default_factory=_made_by_checking)
    node_helper: NodeHelperSection = Field(default_factory=_made_by_checking)
    checkpoint: CheckpointSection = Field(default_factory=_made_by_checking)
    audit: AuditSection = Field(default_factory=_made_by_checking)
    observability: ObservabilitySection = Field(default_factory=_made_by_checking)
    contacts: tuple[Contact, ...] = ()
    notify: NotifySection = Field(default_factory=_made_by_checking)
    watch: WatchSection = Field(default_factory=_made_by_checking)

    @model_validator(mode="after")
    def _known_wishes(self) -> Self:
        known = {contact.role for contact in self.contacts} | {kind.value for kind in PageKind}
        for receiver in self.notify.to:
            if unknown := [word for word in receiver.wanted if word not in known]:
                raise ValueError(
                    f"notify.to {receiver.name}: {', '.join(map(repr, unknown))} is neither the role of a contact nor "
                    f"one of {', '.join(PageKind)}"
                )
        return self


def default_path() -> Path:
    base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(base) / "ringfence" / "config.yaml"


def load(path: Path | None = None) -> Config:
    """Read the configuration. Raises ConfigError that names the file and every wrong key at once."""
    named = path or (Path(os.environ[_FILE]) if os.environ.get(_FILE) else None)
    file = named or default_path()
    if named is None and not file.exists():
        return _validate({}, "the environment (RINGFENCE_…)")
    return _validate(_read(file), str(file))


def _read(file: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(file.read_bytes())
    except OSError as error:
        raise ConfigError(
            f"the configuration {file} cannot be read",
            location=str(file),
            why=error.strerror or str(error),
            next_step="correct --config or RINGFENCE_CONFIG",
        ) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: a date like 2026-13-45
        raise ConfigError(
            f"the configuration {file} is not YAML", location=str(file), why=_yaml(error), next_step="correct the file"
        ) from error
    if content is None:
        return {}
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise ConfigError(
            f"the configuration {file} is not a mapping",
            location=str(file),
            why=f"it is a {type(content).__name__}" if not isinstance(content, dict) else "a key of it is not a name",
            next_step="see docs/reference/configuration.md",
        )
    return content


def _yaml(error: Exception) -> str:
    """What is wrong and where. The parser's own words quote the line, and that may be the database's password."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        problem = re.sub("'[^']*'", "(…)", error.problem or "it cannot be read")
        return f"{problem}, line {error.problem_mark.line + 1}, column {error.problem_mark.column + 1}"
    return str(error)


def _validate(content: dict[str, Any], where: str) -> Config:
    try:
        return Config.model_validate(_over(content, _environment()))
    except ValidationError as error:
        problems = [(_name(problem["loc"]), _words(problem)) for problem in error.errors()]
    raise ConfigError(
        f"the configuration in {where} has {len(problems)} wrong key{'s' if len(problems) > 1 else ''}",
        location=f"{where}: {problems[0][0]}",
        why="; ".join(f"{key}: {words}" for key, words in problems),
        next_step="see docs/reference/configuration.md",
    )


def _environment() -> dict[str, Any]:
    """What the environment sets. Its reader is slow to import: it is asked only when there may be something to read."""
    if not any(name.upper().startswith(PREFIX) and name.upper() != _FILE for name in os.environ):
        return {}
    from ringfence.config.environment import read

    return read()


def _over(content: dict[str, Any], environment: dict[str, Any]) -> dict[str, Any]:
    """The environment wins over the file, key by key."""
    merged = dict(content)
    for key, value in environment.items():
        below = merged.get(key)
        merged[key] = _over(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def _name(location: tuple[int | str, ...]) -> str:
    """The key as it is written in the file, and the variable beside it when that is where the value came from."""
    key = ".".join(map(str, location))
    variable = f"RINGFENCE_{'__'.join(map(str, location))}".upper()
    return f"{key} (from {variable})" if variable in os.environ else key


def _words(problem: Any) -> str:
    if problem["type"] == "extra_forbidden":
        return "no such key"
    return str(problem["msg"])
