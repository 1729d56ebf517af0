"""One branch of a Git repository as a place that only grows: by running ``git``, which has the user's own credentials.

No shell, no question to anybody, every command bounded in time; what the other side says is cut short, and for the
screen to make harmless. Nothing of the working folder or of the repository's hooks on this side is used: commits are
made in a bare repository of a moment, and pushed without force.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ringfence.errors import Conflict, NotSent, PlatformError, Unanswered

_TRIES = 3
_MOST_SAID = 2000
_SETTINGS = (
    "core.hooksPath=/dev/null",
    "commit.gpgSign=false",
    "gc.auto=0",
    "maintenance.auto=false",
    "protocol.ext.allow=never",
    "fetch.fsckObjects=true",
    "core.fsmonitor=false",
    "core.askPass=",
    "submodule.recurse=false",
    "advice.detachedHead=false",
)
_ANCHORED_BY = {
    "GIT_AUTHOR_NAME": "ringfence",
    "GIT_AUTHOR_EMAIL": "ringfence@localhost",
    "GIT_COMMITTER_NAME": "ringfence",
    "GIT_COMMITTER_EMAIL": "ringfence@localhost",
}


@dataclass(frozen=True)
class Branch:
    """``repository`` is an absolute path or a URL that the configuration allowed. ``seconds`` bounds each command.

    Every method raises PlatformError: NotSent (nothing was changed there), Unanswered, Conflict.
    """

    repository: str
    name: str
    seconds: float

    def add(self, path: str, data: bytes, message: str) -> str:
        """Commit one new file; the commit's id. The same bytes there already are no error, others are a Conflict."""
        for attempt in range(_TRIES):
            with self._fetched() as (folder, tip):
                if tip:
                    known = self._run(folder, "ls-tree", "-z", tip, "--", path)
                    if known and self._run(folder, "cat-file", "blob", f"{tip}:{path}") == data:
                        return tip
                    if known:
                        raise self._error(Conflict, f"{path} holds other bytes", "push", "somebody wrote it")
                commit = self._commit(folder, tip, path, data, message)
                try:
                    self._run(folder, "push", "--quiet", "--", self.repository, f"{commit}:refs/heads/{self.name}")
                except PlatformError:
                    # Somebody else was first, or it is not to be written to: what is there now tells.
                    if attempt == _TRIES - 1:
                        raise
                    continue
                return commit
        raise AssertionError("unreachable")

    def files(self, below: str, most: int, longest: int) -> dict[str, bytes]:
        """The files of the branch below a folder, by path. Larger ones are cut after ``longest`` + 1 bytes."""
        with self._fetched() as (folder, tip):
            if not tip:
                return {}
            listed = self._run(folder, "ls-tree", "-r", "-z", "--full-tree", tip, "--", f"{below}/")
            found: dict[str, bytes] = {}
            for line in listed.split(b"\0"):
                facts, _, path = line.partition(b"\t")
                if not path:
                    continue
                if len(found) >= most:
                    raise self._error(Conflict, f"{below} has too many files", "fetch", f"more than {most}")
                blob = facts.split(b" ")[2].decode("ascii")
                found[path.decode("utf-8", "replace")] = self._run(folder, "cat-file", "blob", blob)[: longest + 1]
            return found

    @contextlib.contextmanager
    def _fetched(self) -> Iterator[tuple[Path, str]]:
        """A bare repository with the branch in it, and the id of its newest commit; empty when there is no branch."""
        with tempfile.TemporaryDirectory(prefix="ringfence-git-") as temporary:
            folder = Path(temporary)
            self._run(folder, "init", "--bare", "--quiet", ".")
            there = self._run(folder, "ls-remote", "--", self.repository, f"refs/heads/{self.name}")
            if not there.strip():
                yield folder, ""
                return
            reference = f"+refs/heads/{self.name}:refs/heads/fetched"
            self._run(folder, "fetch", "--quiet", "--no-tags", "--depth=1", "--", self.repository, reference)
            yield folder, self._run(folder, "rev-parse", "refs/heads/fetched").decode("ascii").strip()

    def _commit(self, folder: Path, tip: str, path: str, data: bytes, message: str) -> str:
        blob = self._run(folder, "hash-object", "-w", "--stdin", given=data).decode("ascii").strip()
        self._run(folder, "read-tree", *([tip] if tip else ["--empty"]))
        self._run(folder, "update-index", "--add", "--cacheinfo", f"100644,{blob},{path}")
        tree = self._run(folder, "write-tree").decode("ascii").strip()
        parents = ["-p", tip] if tip else []
        return self._run(folder, "commit-tree", tree, *parents, given=message.encode()).decode("ascii").strip()

    def _run(self, folder: Path, *arguments: str, given: bytes = b"") -> bytes:
        verb = arguments[0]
        command = ["git", *(part for setting in _SETTINGS for part in ("-c", setting)), *arguments]
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as put:
            put.write(given)
            put.seek(0)
            try:
                process = subprocess.Popen(  # a list, and no shell
                    command, cwd=folder, env=_environment(), stdin=put, stdout=out, stderr=said, start_new_session=True
                )
            except OSError as error:
                why = error.strerror or str(error)
                raise self._error(NotSent, "git cannot be run", verb, why, "install git") from error
            try:
                code = process.wait(self.seconds)
            except subprocess.TimeoutExpired as error:
                raise self._error(
                    Unanswered, f"git {verb} took longer than {self.seconds:g} seconds", verb, self._said(said)
                ) from error
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)  # what it started ends with it
                process.wait()
            if code != 0:
                kind = Unanswered if verb == "push" else NotSent
                raise self._error(kind, f"git {verb} of {self.repository} failed", verb, self._said(said))
            out.seek(0)
            return out.read()

    @staticmethod
    def _said(file: IO[bytes]) -> str:
        file.seek(0)
        words = file.read(_MOST_SAID)
        return words.decode("utf-8", "replace").strip()

    def _error(
        self, kind: type[PlatformError], what: str, verb: str, why: str, next_step: str = "check anchor.git"
    ) -> PlatformError:
        return kind(what, system="git", verb=verb, target=self.repository, why=why, next_step=next_step)


def _environment() -> dict[str, str]:
    """The user's own, without what would turn ``git`` to another repository, and without any question."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    ssh = os.environ.get("GIT_SSH_COMMAND", "ssh")
    return {
        **kept,
        **_ANCHORED_BY,
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_SSH_COMMAND": f"{ssh} -oBatchMode=yes",
        "GIT_DIR": ".",
        "SSH_ASKPASS": "",
        "LC_ALL": "C",
    }
