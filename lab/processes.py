"""The lab's daemons: started once, found again, stopped; never by name.

A daemon is known by a record in ``lab.pids``: its PID, the kernel's start time of that PID, the boot's id and a
fingerprint of what was started. A PID that was given to another process since then has another start time, so
nothing that the lab did not start is ever taken for its own, or ended.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from lab.errors import LabError
from lab.layout import Lab

# What a daemon gets of its caller's environment: no more, so that it does not depend on who started it.
INHERITED = ("PATH", "HOME", "XDG_CACHE_HOME")
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class Daemon:
    """What to start. ``version`` enters the fingerprint: change it to have a running daemon replaced (for example
    a hash of its configuration file)."""

    name: str
    argv: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)
    working_directory: Path = Path("/")
    version: str = ""

    @property
    def fingerprint(self) -> str:
        content = [self.argv, sorted(self.environment.items()), str(self.working_directory), self.version]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()


@dataclass(frozen=True)
class Record:
    """A started daemon. ``start_time`` is in clock ticks since boot (field 22 of /proc/PID/stat)."""

    pid: int
    start_time: int
    boot_id: str
    fingerprint: str

    @property
    def alive(self) -> bool:
        return start_time(self.pid) == self.start_time and BOOT_ID.read_text().strip() == self.boot_id


def start_time(pid: int) -> int | None:
    """The start of a process in clock ticks since boot; None when it is gone or only a zombie is left."""
    try:
        # The second field is the program's name in parentheses and may itself hold spaces and parentheses.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in ("Z", "X") else int(fields[19])


def started_at(pid: int) -> float:
    """When a process started, in seconds since the epoch.

    Raises:
        LabError: the process is gone.
    """
    ticks = start_time(pid)
    if ticks is None:
        raise LabError(f"process {pid} ended while the lab looked at it: run `python -m lab status` again")
    uptime = float(Path("/proc/uptime").read_text().split()[0])
    return time.time() - uptime + ticks / os.sysconf("SC_CLK_TCK")


def log_path(lab: Lab, name: str) -> Path:
    return lab.logs / f"{name}.log"


def running(lab: Lab, name: str) -> int | None:
    """The PID of that daemon if it is alive."""
    record = _read(lab, name)
    return record.pid if record and record.alive else None


def is_current(lab: Lab, daemon: Daemon) -> bool:
    """Whether this very daemon is alive: same command, same version."""
    record = _read(lab, daemon.name)
    return record is not None and record.alive and record.fingerprint == daemon.fingerprint


def ensure(lab: Lab, daemon: Daemon) -> bool:
    """Starts the daemon unless the very same one is running; replaces it when its command or version changed.

    The daemon gets a session, a standard input and a log of its own, so it outlives its caller and holds none of
    the caller's files open. Returns whether it was started.
    """
    if is_current(lab, daemon):
        return False
    stop(lab, daemon.name)
    lab.pids.mkdir(exist_ok=True)
    lab.logs.mkdir(exist_ok=True)

    def register() -> None:
        # In the child, before it becomes the daemon: whenever the caller dies, the record is there first.
        pid = os.getpid()
        started = start_time(pid)
        if started is None:
            raise OSError(f"cannot read /proc/{pid}/stat")
        _write(lab, daemon.name, Record(pid, started, BOOT_ID.read_text().strip(), daemon.fingerprint))

    inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
    with log_path(lab, daemon.name).open("ab") as log:
        try:
            subprocess.Popen(
                daemon.argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=daemon.working_directory,
                env={**inherited, **daemon.environment},
                start_new_session=True,
                preexec_fn=register,
            ).returncode = 0  # Nobody waits for it here: init inherits it, and no warning about it at exit.
        except (OSError, subprocess.SubprocessError) as error:
            raise LabError(f"cannot start {daemon.name}: {error}") from error
    return True


def stop(lab: Lab, *names: str, grace: float = 5.0) -> None:
    """Ends these daemons: SIGTERM, then SIGKILL after ``grace`` seconds (0: at once). Unknown names are no error."""
    records = {name: record for name in names if (record := _read(lab, name))}
    alive = [record for record in records.values() if record.alive]
    if grace:
        _signal(alive, signal.SIGTERM)
        _wait(alive, grace)
    _signal(alive, signal.SIGKILL)
    if left := _wait(alive, 10.0):
        pids = ", ".join(str(record.pid) for record in left)
        raise LabError(f"processes {pids} of lab {lab.name} do not die even by SIGKILL: look at /proc/PID/stack")
    for name in records:
        (lab.pids / f"{name}.json").unlink(missing_ok=True)


def stop_all(lab: Lab, grace: float = 5.0) -> None:
    """Ends every daemon that has a record."""
    stop(lab, *(path.stem for path in lab.pids.glob("*.json")), grace=grace)


def last_lines(lab: Lab, name: str, count: int = 5) -> str:
    """The end of a daemon's log, for error messages."""
    try:
        lines = log_path(lab, name).read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return "(no log)"
    return "\n".join(f"  {line[:300]}" for line in lines[-count:])


def _signal(records: list[Record], number: signal.Signals) -> None:
    for record in records:
        if record.alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(record.pid, number)


def _wait(records: list[Record], seconds: float) -> list[Record]:
    deadline = time.monotonic() + seconds
    while (left := [record for record in records if record.alive]) and time.monotonic() < deadline:
        time.sleep(0.02)
    return left


def _read(lab: Lab, name: str) -> Record | None:
    try:
        return Record(**json.loads((lab.pids / f"{name}.json").read_text()))
    except FileNotFoundError:
        return None


def _write(lab: Lab, name: str, record: Record) -> None:
    temporary = lab.pids / f".{name}.{os.getpid()}"
    temporary.write_text(json.dumps(dataclasses.asdict(record)))
    temporary.rename(lab.pids / f"{name}.json")
