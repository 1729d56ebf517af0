"""The configuration: one YAML file, every key known, every default usable.

Looked for in ``--config``, ``$RINGFENCE_CONFIG``, ``~/.config/ringfence/config.yaml``; none of them is needed. Keys may
be set in the environment too (``RINGFENCE_VAULT__PATH``). An unknown key is an error that names file and key.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

from ringfence.errors import ConfigError

_HTTP = "^https?://[^/?#]+"
_DESTINATION = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?):(?P<port>[0-9]{1,5})")


def _state_home() -> Path:
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "ringfence"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ClusterSection(_Section):
    """How the cluster is reached. ``kubeconfig`` and ``context`` default to kubectl's."""

    kubeconfig: Path | None = None
    context: str | None = None
    timeout_seconds: float = Field(default=10.0, gt=0, le=300)


class StoreSection(_Section):
    """``url`` is an SQLAlchemy URL."""

    url: str = Field(default_factory=lambda: f"sqlite:///{_state_home() / 'ringfence.db'}")


class S3Section(_Section):
    """A bucket that gets a copy of every sealed bundle. Credentials come by AWS's usual chain, never from here.

    ``object_lock`` is the mode in which a copy is locked for ``retain_days``, ``legal_hold`` holds it beyond.
    """

    bucket: str = Field(min_length=3)
    prefix: str = ""
    region: str | None = None
    endpoint_url: str | None = Field(default=None, pattern=_HTTP)
    object_lock: Literal["compliance", "governance", "none"] = "compliance"
    retain_days: int = Field(default=1825, ge=1, le=36500)
    legal_hold: bool = False

    @field_validator("endpoint_url")
    @classmethod
    def _no_credentials(cls, value: str | None) -> str | None:
        if value is not None and "@" in value:
            raise ValueError("no credentials here: they come by AWS's usual chain")
        return value

    @property
    def place(self) -> str:
        """How the place is named in the record."""
        return f"{self.endpoint_url.rstrip('/')}/{self.bucket}" if self.endpoint_url else f"s3://{self.bucket}"


class VaultSection(_Section):
    """The folder of evidence and sealed bundles. ``retention_days``: for how long after the incident was closed nothing
    of its evidence may be disposed of. ``encryption_key``: a file with 32 bytes in base64; new evidence is encrypted
    with it. ``s3``: where copies of bundles go; none: nowhere.
    """

    path: Path = Field(default_factory=lambda: _state_home() / "vault")
    retention_days: int = Field(default=1825, ge=0, le=36500)
    encryption_key: Path | None = None
    s3: S3Section | None = None


class SigningSection(_Section):
    """The private key (PEM, ECDSA P-256) that seals; made at the first use when there is none.

    ``timestamp_url``: a time-stamping authority (RFC 3161) that stamps each seal; none: no stamps. It learns digests
    and times. ``timestamp_roots``: the root certificates (PEM) below which a stamp is believed.
    """

    key: Path = Field(default_factory=lambda: _state_home() / "keys" / "seal.pem")
    timestamp_url: str | None = Field(default=None, pattern=_HTTP)
    timestamp_roots: Path | None = None

    @model_validator(mode="after")
    def _has_roots(self) -> SigningSection:
        if self.timestamp_url is not None and self.timestamp_roots is None:
            raise ValueError("timestamp_url needs timestamp_roots: a stamp that nobody can check is none")
        return self


class ContainmentSection(_Section):
    """``serving_floor``: ready pods that each Service keeps; below it the operator is asked.

    ``pre_cut_wait_ms``: how long at most the cut waits for log streams to open. ``seal_max_age_seconds``: how old a
    seal may be for a destructive step. ``delete_wait_seconds``: how long to wait for a deleted pod to be gone.
    """

    serving_floor: int = Field(default=1, ge=0)
    pre_cut_wait_ms: int = Field(default=200, ge=0, le=200)
    seal_max_age_seconds: int = Field(default=900, gt=0)
    delete_wait_seconds: int = Field(default=90, gt=0)
    token_canary: bool = True


class GuardrailsSection(_Section):
    """Limits that are the engine's, whatever a playbook says.

    ``blast_radius_pods``: pods of a run that may end, or whose cut breaks a Service's floor, before a second person is
    asked. ``hourly_pods``: the same over all incidents of an hour; ``critical_reserve`` of it (0 to 1) is kept for
    critical ones, so that decoys cannot use it up. ``approval_minutes``: how long an approval may be given; then it is
    a no. ``lease_minutes``: how long a cut stands before somebody is asked to look again; nothing reverts by itself.
    """

    blast_radius_pods: int = Field(default=10, ge=0)
    hourly_pods: int = Field(default=60, ge=1)
    critical_reserve: float = Field(default=0.5, ge=0, le=1)
    approval_minutes: int = Field(default=60, ge=1, le=1440)
    lease_minutes: int = Field(default=480, ge=1)


class ProtectedSection(_Section):
    """What no playbook and no command may touch."""

    namespaces: tuple[str, ...] = ("kube-system", "kube-public", "kube-node-lease", "ringfence")
    label: str = "ringfence.dev/protected"


class ActionsSection(_Section):
    """``enabled``: the actions that may be used here; ``rbac`` renders rights for these alone. Default: all."""

    enabled: tuple[str, ...] | None = Field(default=None, min_length=1)


class CanarySection(_Section):
    """The network canary: throw-away pods that try a fence on packets, with ``--canary``; ``enabled``: at every cut.

    ``image`` has ``python3`` on its path; the canary needs it. ``namespace`` is where a peer of another namespace
    starts; none: paths from and to other namespaces are not tried. ``seconds`` bounds each of its phases (four with the
    start). ``destinations``: further addresses ``HOST:PORT`` (TCP) that are tried, eight at most.
    """

    enabled: bool = False
    image: str | None = Field(default=None, min_length=1)
    namespace: str | None = Field(default=None, pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")
    image_pull_policy: Literal["IfNotPresent", "Always", "Never"] = "IfNotPresent"
    seconds: int = Field(default=20, ge=5, le=120)
    destinations: tuple[str, ...] = Field(default=(), max_length=8)

    @field_validator("destinations")
    @classmethod
    def _addresses(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for one in value:
            found = _DESTINATION.fullmatch(one)
            if found is None or not 0 < int(found["port"]) < 65536:
                raise ValueError(f"{one!r} is not HOST:PORT")
        return value

    @model_validator(mode="after")
    def _has_image(self) -> CanarySection:
        if self.enabled and self.image is None:
            raise ValueError("enabled needs image: name one that has python3")
        return self


class AuditSection(_Section):
    """``log``: the API server's audit log (JSON lines), where this machine can read it; none: it cannot."""

    log: Path | None = None


class ObservabilitySection(_Section):
    """Where ``doctor`` asks whether monitoring answers. None: not looked for."""

    prometheus_url: str | None = Field(default=None, pattern=_HTTP)
    alertmanager_url: str | None = Field(default=None, pattern=_HTTP)
    grafana_url: str | None = Field(default=None, pattern=_HTTP)


class Contact(_Section):
    """Whom to call; printed in reports."""

    role: str
    name: str
    reach: str


class Config(BaseSettings):
    """The whole file."""

    model_config = SettingsConfigDict(
        extra="forbid", frozen=True, env_prefix="RINGFENCE_", env_nested_delimiter="__", env_ignore_empty=True
    )

    cluster: ClusterSection = ClusterSection()
    store: StoreSection = Field(default_factory=StoreSection)
    vault: VaultSection = Field(default_factory=VaultSection)
    signing: SigningSection = Field(default_factory=SigningSection)
    containment: ContainmentSection = ContainmentSection()
    guardrails: GuardrailsSection = GuardrailsSection()
    protected: ProtectedSection = ProtectedSection()
    actions: ActionsSection = ActionsSection()
    canary: CanarySection = CanarySection()
    audit: AuditSection = AuditSection()
    observability: ObservabilitySection = ObservabilitySection()
    contacts: tuple[Contact, ...] = ()

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
