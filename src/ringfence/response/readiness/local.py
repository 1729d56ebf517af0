"""What must be in order on this machine: store, engine, vault, key, and who is called."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ringfence.errors import RingfenceError, VaultError
from ringfence.evidence.vault import Vault
from ringfence.platform import notify
from ringfence.response.paging import Rota, undelivered
from ringfence.response.readiness.findings import Finding, failed, ok, warn
from ringfence.seal.signing import SigningKey
from ringfence.store import runs
from ringfence.store.database import Store

_ROLES = {
    "security": ("security",),
    "platform": ("platform",),
    "on-call": ("on-call", "on call", "oncall", "duty"),
}
"""Who is needed at night, and the words by which a contact's role tells it."""
_HOLDER = re.compile(r"process (\d{1,10}) since ")
_TRIAL = b"ringfence doctor: this is signed to try the key, and thrown away"


def check_store(open_store: Callable[[], Store], engine_lock: Callable[[], Path | None]) -> Iterator[Finding]:
    """The store opens and can be written; and who carries its runs on."""
    try:
        store = open_store()
    except RingfenceError as error:
        yield failed("store", error)
        return
    try:
        with store.write() as session:
            left = [run.id for run in runs.unfinished(session)]
        yield ok("store", f"{store.place} can be written")
        yield _engine(engine_lock(), left)
    except RingfenceError as error:
        yield failed("store", error)
    finally:
        store.close()


def _engine(lock: Path | None, left: Sequence[str]) -> Finding:
    holder = _holder(lock) if lock else ""
    if holder:
        return ok("engine", f"run by {holder}")
    if left:
        return warn(
            "engine",
            f"nobody runs it, and {', '.join(left)} {'has' if len(left) == 1 else 'have'} not ended",
            "ringfence resume INC, or ringfence watch",
        )
    free = "free" if lock else "on Postgres each process has its own"
    return ok("engine", f"{free}; no run waits for it")


def _holder(lock: Path) -> str:
    """The living process that wrote itself into the lock file, in words; the lock itself is not touched."""
    try:
        with lock.open("rb") as file:
            words = file.read(200).decode("ascii", "replace").strip()
    except OSError:
        return ""
    found = _HOLDER.match(words)
    if found is None:
        return ""
    try:
        os.kill(int(found[1]), 0)
    except (ProcessLookupError, OverflowError):
        return ""
    except PermissionError:
        pass  # it lives, and is somebody else's
    return words


def check_vault(vault: Vault) -> Finding:
    try:
        vault.check()
        room = os.statvfs(vault.root)
    except RingfenceError as error:
        return failed("vault", error)
    except OSError as error:
        return failed("vault", VaultError(f"the vault at {vault.root} cannot be looked at", why=str(error)))
    free = room.f_bavail * room.f_frsize
    encrypted = f", encrypted with key {vault.key.id.hex()}" if vault.key is not None else ""
    saw = f"{vault.root} can be written, {free / 2**30:.1f} GiB free{encrypted}"
    if free < 2**30:
        return warn("vault", saw, "make room: logs and bundles of one incident can need a gigabyte")
    return ok("vault", saw)


def check_key(load: Callable[[], SigningKey], shown: str) -> Finding:
    """Sign something and verify it, as a seal would be."""
    try:
        key = load()
        signature = key.sign(_TRIAL)
    except RingfenceError as error:
        return failed("signing key", error)
    if not key.public_key.verifies(signature, _TRIAL):
        return failed("signing key", VaultError(f"{shown} signs what its public key does not verify"))
    return ok("signing key", f"{shown} signs, and its public key verifies; key {key.key_id}")


def check_contacts(roles: Sequence[str]) -> Finding:
    """Whether somebody of each needed role can be called."""
    known = [role.lower() for role in roles]
    missing = [needed for needed, words in _ROLES.items() if not any(word in role for role in known for word in words)]
    if missing:
        have = ", ".join(roles) if roles else "none"
        return warn(
            "contacts",
            f"nobody for {', '.join(missing)} (configured: {have})",
            "contacts in the configuration: who is called at night, with a role that says it",
        )
    return ok("contacts", f"{len(roles)}: {', '.join(roles)}")


def check_pages(rota: Rota, open_store: Callable[[], Store]) -> Iterator[Finding]:
    """Who can be paged, whether each receiver's URL is one, and what was not delivered. Nothing is sent."""
    check = "pages"
    if not rota.receivers:
        yield warn(check, "nobody is paged", "notify.to in the configuration, then ringfence notify test")
        return
    wrong = 0
    for receiver in rota.receivers:
        try:
            notify.check(receiver.url(), receiver.name)
        except RingfenceError as error:
            wrong += 1
            yield failed(f"{check}: {receiver.name}", error)
    names = ", ".join(receiver.name for receiver in rota.receivers)
    if alone := rota.unreachable():
        yield warn(check, f"no receiver for {', '.join(alone)}", "notify.to: for: their role")
    elif not wrong:
        yield ok(check, f"{names}; tried by ringfence notify test")
    try:
        store = open_store()
    except RingfenceError:
        return  # the check of the store says it
    try:
        left = undelivered(store)
    except RingfenceError as error:
        yield failed(check, error)
        return
    finally:
        store.close()
    if left:
        newest = left[-1]
        yield warn(
            check,
            f"{len(left)} not delivered, the last of them about {newest.incident}: {newest.problem}",
            "ringfence notify test",
        )
