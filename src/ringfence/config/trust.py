"""Sections about our own word outside the house: redacted copies, and the timeline's head kept elsewhere."""

import re
from typing import Self

from pydantic import Field, field_validator, model_validator

from ringfence.config.sections import S3Section, Section

_NAME = r"^[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?$"
_SCP = re.compile(r"[A-Za-z0-9_.-]+@[A-Za-z0-9.-]+:[^\s:][^\s]*")
_BRANCH = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_/-]{0,98}[A-Za-z0-9_]")


class DisclosurePattern(Section):
    """A regular expression (Python's), tried on each line by itself. Its group ``redact``, if it has one, is what goes;
    else all of the match.
    """

    name: str = Field(pattern=_NAME)
    pattern: str = Field(min_length=1, max_length=1000)
    ignore_case: bool = False

    @field_validator("pattern")
    @classmethod
    def _usable(cls, value: str) -> str:
        try:
            compiled = re.compile(value)
        except (re.error, RecursionError, OverflowError) as error:
            raise ValueError(f"it is no regular expression: {error}") from error
        if compiled.search("") is not None:
            raise ValueError("it fits nothing at all, and so is everywhere")
        return value


class DisclosureField(Section):
    """Fields of JSON items. ``path`` is a JSON pointer (RFC 6901), in which ``*`` stands for any one part; ``items``:
    a glob of the items that it is for.
    """

    name: str = Field(pattern=_NAME)
    path: str = Field(pattern=r"^(/[^/]+)+$", max_length=1000)
    items: str = Field(default="*", min_length=1)

    @property
    def parts(self) -> tuple[str, ...]:
        return tuple(part.replace("~1", "/").replace("~0", "~") for part in self.path[1:].split("/"))


class DisclosureSection(Section):
    """What ``ringfence evidence disclose`` takes out besides what it knows by itself (Secrets, tokens, private keys,
    passwords and the like).

    ``omit``: globs of items that are left out as a whole. ``env_names``: globs of further environment variables whose
    values go. ``pattern_seconds``: how long the patterns may take on a piece of text; one that takes longer stops the
    disclosure.
    """

    patterns: tuple[DisclosurePattern, ...] = Field(default=(), max_length=64)
    fields: tuple[DisclosureField, ...] = Field(default=(), max_length=256)
    omit: tuple[str, ...] = ()
    env_names: tuple[str, ...] = ()
    pattern_seconds: float = Field(default=5.0, ge=0.1, le=60)

    @field_validator("omit", "env_names")
    @classmethod
    def _say_something(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not all(one.strip() for one in value):
            raise ValueError("an empty glob fits nothing")
        return value

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        if doubled := [name for name in dict.fromkeys(self.names) if self.names.count(name) > 1]:
            raise ValueError(f"{', '.join(doubled)} is there twice")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """Of all rules."""
        return (*(one.name for one in self.patterns), *(one.name for one in self.fields))


class AnchorGit(Section):
    """A Git repository that gets a commit for each anchor: an absolute path, or a URL (https, ssh, file). Credentials
    come by Git's own ways, never from here; nobody is asked for any. ``seconds`` bounds each command.
    """

    repository: str = Field(min_length=1, max_length=1000)
    branch: str = "ringfence-anchors"
    seconds: int = Field(default=30, ge=1, le=600)

    @property
    def place(self) -> str:
        """How the place is named in the record."""
        return f"{self.repository}#{self.branch}"

    @field_validator("repository")
    @classmethod
    def _a_place(cls, value: str) -> str:
        if any(ord(letter) < 33 for letter in value):
            raise ValueError("no spaces or control characters")
        scheme, found, rest = value.partition("://")
        if found and scheme in ("https", "ssh", "file"):
            if scheme == "https" and "@" in rest.partition("/")[0]:
                raise ValueError("no credentials here: they come by Git's own ways")
            if rest.startswith("-"):
                raise ValueError("it is no place")
            return value
        if value.startswith("/") or _SCP.fullmatch(value):
            return value
        raise ValueError("an absolute path, https://…, ssh://…, file://… or user@host:path")

    @field_validator("branch")
    @classmethod
    def _a_branch(cls, value: str) -> str:
        if not _BRANCH.fullmatch(value) or "//" in value:
            raise ValueError("letters, digits, - and _, in parts with / between them")
        return value


class AnchorS3(S3Section):
    """A bucket that gets each anchor as an object. It is configured like ``vault.s3``."""

    prefix: str = "anchors"


class AnchorSection(Section):
    """Where the heads of timelines are kept outside: whoever rewrites a timeline has to rewrite them there as well.
    ``every_minutes``: how often ``ringfence watch`` anchors an open incident that has changed since.
    """

    s3: AnchorS3 | None = None
    git: AnchorGit | None = None
    every_minutes: int = Field(default=60, ge=1, le=10080)

    @property
    def places(self) -> tuple[str, ...]:
        """How the places are named in the record."""
        return tuple(one.place for one in (self.s3, self.git) if one is not None)
