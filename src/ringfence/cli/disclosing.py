"""What ``ringfence evidence disclose`` does."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from ringfence import app as wiring
from ringfence.cli.acting import principal
from ringfence.cli.bundles import open_seal, public_key
from ringfence.cli.output import note
from ringfence.config import Config
from ringfence.errors import ConfigError, TargetError, VaultError
from ringfence.evidence.disclosure import Disclosed, disclose
from ringfence.evidence.redaction.items import Wish
from ringfence.evidence.redaction.rules import BUILT_IN, ENV_NAMES, FieldRule, Pattern, Rules
from ringfence.model.evidence import Seal
from ringfence.store import evidence, incidents

_SEAL = re.compile(r"(?P<incident>.+)/seal/[0-9]+")
_KEY = "seal.pub.pem"


def rules(config: Config) -> Rules:
    """The rules of the configuration, and those that are always there. Raises ConfigError."""
    section = config.disclosure
    for name in section.names:
        if name in BUILT_IN:
            raise ConfigError(
                f"a rule of disclosure cannot be called {name}",
                location="disclosure",
                why="a rule that is always there has this name",
                next_step="choose another name",
            )
    return Rules(
        patterns=tuple(
            Pattern(one.name, re.compile(one.pattern, re.IGNORECASE if one.ignore_case else 0))
            for one in section.patterns
        ),
        fields=tuple(FieldRule(one.name, one.items, one.parts) for one in section.fields),
        omit=section.omit,
        env_names=(*ENV_NAMES, *section.env_names),
        seconds=section.pattern_seconds,
    )


def make(
    config: Config,
    source: str,
    seal_id: str | None,
    out: Path,
    *,
    to: str,
    reason: str,
    binary: Sequence[str],
    leave_out: Sequence[str],
) -> Disclosed:
    """Raises TargetError, ConfigError, Tampered, Unverifiable, VaultError, EvidenceError, StoreError."""
    known = rules(config)
    seal = _find(config, source, seal_id)
    store = wiring.store(config)
    actor = principal(config, store).id
    wish = Wish(to, reason, known, tuple(binary), tuple(leave_out))
    made = disclose(
        store,
        wiring.vault(config),
        wiring.signing_key(config),
        seal,
        out.expanduser(),
        wish,
        actor=actor,
        now=datetime.now(UTC),
    )
    _hand_key(config, out.expanduser())
    return made


def _find(config: Config, source: str, seal_id: str | None) -> Seal:
    """``source`` is an incident, a seal, or a file with a bundle that the record knows."""
    if (named := _SEAL.fullmatch(source)) is not None:
        return open_seal(config, named["incident"], source).seal
    if not Path(source).is_file():
        return open_seal(config, source, seal_id).seal
    try:
        with wiring.vault(config).open(Path(source)) as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]  # it needs read alone
    except OSError as error:
        raise TargetError(f"{source} cannot be read", why=error.strerror or str(error)) from error
    with wiring.store(config).read() as session:
        for incident in incidents.newest_first(session):
            for seal in evidence.seals(session, incident.id):
                if seal.bundle_sha256 == found:
                    return seal
    raise TargetError(
        f"{source} is no bundle that is on record here",
        why=f"its SHA-256 is {found}",
        next_step="a redacted copy is made where the seal was made: its record must say so",
    )


def _hand_key(config: Config, out: Path) -> None:
    """The public key beside the copies; one that is there already must be ours."""
    pem, path = public_key(config).to_pem(), out / _KEY
    try:
        if not path.exists():
            path.write_bytes(pem)
        elif path.read_bytes() != pem:
            note(f"{path} is another key than the one that signed this copy: hand ours out from elsewhere")
    except OSError as error:
        raise VaultError(f"{path} cannot be written", why=error.strerror or str(error)) from error
