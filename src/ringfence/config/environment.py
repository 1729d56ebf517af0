"""The configuration's keys in the environment: ``RINGFENCE_VAULT__PATH`` is ``vault.path``; a list is given as JSON."""

from __future__ import annotations

from typing import Any

from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict, SettingsError

from ringfence.config import PREFIX, Config
from ringfence.errors import ConfigError


class _Settings(Config, BaseSettings):
    model_config = SettingsConfigDict(env_prefix=PREFIX, env_nested_delimiter="__", env_ignore_empty=True)


def read() -> dict[str, Any]:
    """What the environment sets of the configuration, not checked yet. Raises ConfigError for what is no JSON."""
    try:
        return EnvSettingsSource(_Settings)()
    except SettingsError as error:
        raise ConfigError(
            "the configuration in the environment (RINGFENCE_…) cannot be read",
            location="the environment",
            why=f"{error}: {error.__cause__}" if error.__cause__ else str(error),
            next_step="a section or a list is given as JSON, one key of a section as RINGFENCE_SECTION__KEY",
        ) from error
