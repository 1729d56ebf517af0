"""The vault: a local folder per incident with content-addressed blobs and sealed bundles. Nothing is rewritten."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from ringfence.errors import VaultError
from ringfence.seal.files import ENCRYPTED

if TYPE_CHECKING:  # a command that only looks names the vault, and opens nothing in it
    from ringfence.seal.atrest import VaultKey
    from ringfence.seal.blob import BlobFolder

_OURS = (".tar", ".tar.tsr", f".tar{ENCRYPTED}", f".tar{ENCRYPTED}.tsr")
"""How the names of what belongs to a bundle end."""


class Vault:
    """``root``/INC-7/blobs/… and ``root``/INC-7/INC-7-seal-1.tar, readable by their owner only."""

    def __init__(self, root: Path, key: VaultKey | None = None) -> None:
        """With ``key`` what is written is encrypted; what is there is read as it is, encrypted or not."""
        self.root = root
        self.key = key
        self._folders: dict[str, BlobFolder] = {}

    def open(self, path: Path) -> BinaryIO:
        """A bundle as it was sealed. Raises OSError, VaultError for a missing or wrong key, Tampered."""
        from ringfence.seal.atrest import open_file

        return open_file(path, self.key)

    def check(self) -> None:
        """Raise VaultError unless the vault can be written to: better before the cut than after it."""
        try:
            self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
            probe = self.root / f".probe-{os.getpid()}"
            probe.write_bytes(b"")
            probe.unlink()
        except OSError as error:
            raise self._unusable(error) from error

    def blobs(self, incident: str) -> BlobFolder:
        """The incident's blobs; the folder is made when it is missing."""
        from ringfence.seal.blob import BlobFolder

        folder = self.root / incident / "blobs"
        try:
            self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
            # One by one: mkdir gives its mode to the last folder only.
            for part in (folder.parent, folder):
                part.mkdir(exist_ok=True, mode=0o700)
        except OSError as error:
            raise self._unusable(error) from error
        return self._folders.setdefault(incident, BlobFolder(folder, self.key))

    def bundle(self, incident: str, capture: int) -> Path:
        """Where the bundle of a capture goes. A number that is taken by an unrecorded bundle is passed over."""
        name = f"{incident}-seal-{capture}"
        ending = ".tar" + (ENCRYPTED if self.key is not None else "")
        path = self.root / incident / f"{name}{ending}"
        again = 1
        while path.exists():
            again += 1
            path = self.root / incident / f"{name}.{again}{ending}"
        return path

    def bundles(self, incident: str, capture: int) -> tuple[Path, ...]:
        """Bundles that were written for a capture, recorded or not."""
        folder, name = self.root / incident, f"{incident}-seal-{capture}"
        patterns = (f"{name}.tar", f"{name}.*.tar", f"{name}.tar{ENCRYPTED}", f"{name}.*.tar{ENCRYPTED}")
        return tuple(sorted(path for pattern in patterns for path in folder.glob(pattern)))

    def remove(self, incident: str, recorded: Iterable[str]) -> tuple[int, tuple[str, ...]]:
        """Remove the incident's blobs and bundles, ``recorded`` paths of bundles among them; how many files, and the
        names of those that are none of ours and stay. What is gone already is no error. Raises VaultError.
        """
        folder = self.root / incident
        ours = {Path(path) for path in recorded}
        ours |= {path for path in folder.glob(f"{incident}-seal-*") if path.name.endswith(_OURS)}
        ours |= set((folder / "blobs").glob("*")) | set(folder.glob(".unfinished-*"))
        gone = 0
        try:
            for path in sorted(ours):
                try:
                    path.unlink()  # a link is removed, never what it leads to
                except FileNotFoundError:
                    continue
                gone += 1
            for empty in (folder / "blobs", folder):
                if empty.is_dir() and not any(empty.iterdir()):
                    empty.rmdir()
            left = tuple(sorted(path.name for path in folder.iterdir())) if folder.is_dir() else ()
        except OSError as error:
            raise VaultError(
                f"evidence of {incident} cannot be removed",
                why=f"{error.strerror or error}, after {gone} files",
                next_step=f"check {folder}, then dispose again: what is left is removed then",
            ) from error
        return gone, left

    def _unusable(self, error: OSError) -> VaultError:
        return VaultError(
            f"the vault at {self.root} cannot be written",
            why=error.strerror or str(error),
            next_step="check the folder, its owner and its space (vault.path in the configuration)",
        )
