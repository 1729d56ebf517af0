"""The configuration: one YAML file, every key known, every default usable.

Looked for in ``--config``, ``$RINGFENCE_CONFIG``, ``~/.config/ringfence/config.yaml``; none of them is needed. Keys may
be set in the environment too (``RINGFENCE_VAULT__PATH``). An unknown key is an error that names file and key.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

from ringfence.config.sections import (
    ActionsSection,
    AuditSection,
    CanarySection,
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
    S3Section,
    SigningSection,
    StoreSection,
    VaultSection,
    WatchSection,
)
from ringfence.errors import ConfigError
from ringfence.model.page import PageKind

__all__ = [
    "ActionsSection",
    "AuditSection",
    "CanarySection",
    "ClusterSection",
    "Config",
    "Contact",
    "ContainmentSection",
    "EvidenceSection",
    "GuardrailsSection",
    "IdentitySection",
    "NodeHelperSection",
    "NotifySection",
    "ObservabilitySection",
    "ProtectedSection",
    "Receiver",
    "S3Section",
    "SigningSection",
    "StoreSection",
    "VaultSection",
    "WatchSection",
    "default_path",
    "load",
]


class Config(BaseSettings):
    """The whole file."""

    model_config = SettingsConfigDict(
        extra="forbid", frozen=True, env_prefix="RINGFENCE_", env_nested_delimiter="__", env_ignore_empty=True
    )

    cluster: ClusterSection = ClusterSection()
    store: StoreSection = Field(default_factory=StoreSection)
    vault: VaultSection = Field(default_factory=VaultSection)
    evidence: EvidenceSection = EvidenceSection()
    signing: SigningSection = Field(default_factory=SigningSection)
    containment: ContainmentSection = ContainmentSection()
    identity: IdentitySection = IdentitySection()
    guardrails: GuardrailsSection = GuardrailsSection()
    protected: ProtectedSection = ProtectedSection()
    actions: ActionsSection = ActionsSection()
    canary: CanarySection = CanarySection()
    node_helper: NodeHelperSection = NodeHelperSection()
    audit: AuditSection = AuditSection()
    observability: ObservabilitySection = ObservabilitySection()
    contacts: tuple[Contact, ...] = ()
    notify: NotifySection = NotifySection()
    watch: WatchSection = WatchSection()

    @model_validator(mode="after")
    def _known_wishes(self) -> Config:
        known = {contact.role for contact in self.contacts} | {kind.value for kind in PageKind}
        for receiver in self.notify.to:
            if unknown := [word for word in receiver.wanted if word not in known]:
                raise ValueError(
                    f"notify.to {receiver.name}: {', '.join(map(repr, unknown))} is neither the role of a contact nor "
                    f"one of {', '.join(PageKind)}"
                )
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment wins over the file (which comes in as the initial values)."""
        return env_settings, init_settings


def default_path() -> Path:
    base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(base) / "ringfence" / "config.yaml"


def load(path: Path | None = None) -> Config:
    """Read the configuration. Raises ConfigError that names the file and every wrong key at once."""
    named = path or (Path(os.environ["RINGFENCE_CONFIG"]) if os.environ.get("RINGFENCE_CONFIG") else None)
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
    # Names with an underscore in front are arguments of pydantic-settings itself, not keys of ours.
    problems = [(key, "no such key") for key in content if key.startswith("_")]
    try:
        config = Config(**{key: value for key, value in content.items() if not key.startswith("_")})
    except SettingsError as error:
        raise ConfigError(
            "the configuration in the environment (RINGFENCE_…) cannot be read",
            location="the environment",
            why=f"{error}: {error.__cause__}" if error.__cause__ else str(error),
            next_step="a section or a list is given as JSON, one key of a section as RINGFENCE_SECTION__KEY",
        ) from error
    except ValidationError as error:
        problems += [(_name(problem["loc"]), _words(problem)) for problem in error.errors()]
    else:
        if not problems:
            return config
    raise ConfigError(
        f"the configuration in {where} has {len(problems)} wrong key{'s' if len(problems) > 1 else ''}",
        location=f"{where}: {problems[0][0]}",
        why="; ".join(f"{key}: {words}" for key, words in problems),
        next_step="see docs/reference/configuration.md",
    )


def _name(location: tuple[int | str, ...]) -> str:
    """The key as it is written in the file, and the variable beside it when that is where the value came from."""
    key = ".".join(map(str, location))
    variable = f"RINGFENCE_{'__'.join(map(str, location))}".upper()
    return f"{key} (from {variable})" if variable in os.environ else key


def _words(problem: Any) -> str:
    if problem["type"] == "extra_forbidden":
        return "no such key"
    return str(problem["msg"])
