"""The process that dies. It works with the program's own wiring, against an API server that lives elsewhere.

Whatever became of an earlier process, ``carry_out`` does what an operator would: ``resume`` what was begun, then type
the commands that are still to be typed.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
import traceback
from dataclasses import dataclass, replace
from pathlib import Path

from ringfence import app
from ringfence.actions import examination
from ringfence.actions import node_helper as node_actions
from ringfence.config import Config
from ringfence.errors import RingfenceError
from ringfence.model.run import Decision
from ringfence.model.timeline import NodeHelperSwitched
from ringfence.platform.kubernetes.resources import POD
from ringfence.response import checkpoint, consent, node_helper, orders, verbs
from ringfence.response.capture import recapture_all
from ringfence.response.conduct import Conductor, conducting
from ringfence.response.context import Context
from ringfence.response.live import Live
from ringfence.response.seek import seek
from ringfence.response.statement import accept, retest
from ringfence.response.verbs import Wish
from ringfence.response.watching.watcher import Options, Watcher
from ringfence.store import approvals, evidence, incidents, runs, timeline
from tests.crash import clock
from tests.crash.moments import Moment, watch
from tests.crash.scenarios import Order
from tests.crash.witness import COMMIT, THIEF
from tests.node_world import HELPERS

INCIDENT = "INC-1"
DIED = -signal.SIGKILL
FILLER = "filler"
REFERENCE = "checkpoint.reference"
"""The kind of the items that a checkpoint seals."""
FILES = Path(__file__).parent


@dataclass(frozen=True)
class Home:
    """Where one installation keeps its things: picklable, so that several processes can open the same one."""

    folder: Path
    kubeconfig: str
    vault: Path | None = None
    store: Path | None = None
    namespace: str = "bank"

    @property
    def database(self) -> Path:
        return (self.store or self.folder) / "ringfence.db"

    def config(self) -> Config:
        return Config(**self.sections())

    def sections(self) -> dict[str, dict[str, object]]:
        return {
            "cluster": {"kubeconfig": self.kubeconfig, "timeout_seconds": 10.0},
            "store": {"url": f"sqlite:///{self.database}"},
            "vault": {"path": str(self.vault or self.folder / "vault")},
            "signing": {"key": str(self.folder / "seal.pem")},
            "node_helper": {"enabled": True, "image": "tools.test/python:3", "namespace": HELPERS, "seconds": 10},
            "canary": {"image": "tools.test/python:3", "namespace": "probes", "seconds": 5},
            "identity": {"legacy_tokens": True},
            "checkpoint": {"enabled": True, "seconds": 5},
            "containment": {"delete_wait_seconds": 2, "token_canary": True},
        }


@dataclass(frozen=True)
class Trouble:
    """What happens to the process ``at`` a moment, or at its ``after``-th moment whatever that is; neither: nothing.

    ``kind``: ``kill`` (SIGKILL), ``fill`` (the disk of the folder ``where`` is full from then on), ``jump`` (the clock
    shows ``seconds`` more; without a moment from the beginning).
    """

    kind: str = "kill"
    at: Moment | None = None
    after: int = 0
    where: Path | None = None
    seconds: float = 0.0

    def __call__(self, moment: Moment, number: int) -> None:
        if moment != self.at and number != self.after:
            return
        match self.kind:
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "fill":
                assert self.where is not None
                fill(self.where)
            case "jump":
                clock.jump(self.seconds)
            case other:
                raise ValueError(other)


def fill(folder: Path) -> None:
    """Leave no byte free where ``folder`` lies."""
    with contextlib.suppress(OSError), (folder / FILLER).open("ab", buffering=0) as filler:
        while True:
            filler.write(b"\0" * 4096)


def run(home: Home, todo: tuple[Order, ...], trouble: Trouble, record: Path, resumes: bool) -> None:
    """The body of the process. Every moment is a line of ``record``; what it says is in a file beside.

    ``resumes``: what an earlier process left is resumed first, and only the commands that it did not come to are typed.
    """
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = "*"
    said = os.open(record.with_suffix(".out"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(said, 1)
    os.dup2(said, 2)
    line = os.open(record, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    seen = 0

    def on_moment(moment: Moment) -> None:
        nonlocal seen
        seen += 1
        os.write(line, f"{moment.kind}|{moment.when}|{moment.where}|{moment.count}\n".encode())
        trouble(moment, seen)

    examination._POLL_SECONDS = node_actions._POLL_SECONDS = 0.05  # our pods answer at once here
    if trouble.kind == "jump":
        clock.install()
        clock.jump(trouble.seconds if trouble.at is None else 0.0)
    watch(on_moment)
    try:
        carry_out(home, todo) if resumes else obey_all(home, todo)
    except RingfenceError as error:
        print(f"error: {error.what}\n  why:  {error.why}\n  next: {error.next_step}", flush=True)
        os._exit(int(error.exit_code))
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    sys.stdout.flush()
    os._exit(0)


def read_moments(record: Path) -> list[Moment]:
    parts = (line.split("|") for line in record.read_text().splitlines())
    return [Moment(kind, when, where, int(count)) for kind, when, where, count in parts]


def carry_out(home: Home, todo: tuple[Order, ...]) -> None:
    """Resume what was begun, then type what was not typed yet."""
    with session(home) as (context, conductor):
        if known(context) and orders.resumable(context, incident_of(context)):
            verbs.resume(context, conductor, incident_of(context))
        number = typed(context)
    obey_all(home, todo[number:])


def obey_all(home: Home, todo: tuple[Order, ...]) -> None:
    """Each command with a connection of its own, as if it were a process of its own."""
    for order in todo:
        with session(home) as (context, conductor):
            obey(context, conductor, order, home.namespace)


class session:
    """One command's connection and conductor, as the command line makes them."""

    def __init__(self, home: Home) -> None:
        self._home = home

    def __enter__(self) -> tuple[Context, Conductor]:
        config = self._home.config()
        self._connected = app.connected(config)
        context = self._connected.__enter__()
        live = Live(say=lambda words: print(words, flush=True))
        self._conducting = conducting(context, lambda: app.engine(config, print), live)
        return context, self._conducting.__enter__()

    def __exit__(self, *how: object) -> None:
        try:
            self._conducting.__exit__(*how)  # type: ignore[arg-type]
        finally:
            self._connected.__exit__(*how)  # type: ignore[arg-type]


def known(context: Context) -> bool:
    with context.store.read() as found:
        return bool(incidents.newest_first(found))


def incident_of(context: Context):  # type: ignore[no-untyped-def]
    with context.store.read() as found:
        return incidents.get(found, INCIDENT)


def typed(context: Context) -> int:
    """How many of the orders have left their mark: a run for each command, a decision for each approval, a switch, and
    the seal of a checkpoint."""
    if not known(context):
        return 0
    with context.store.read() as found:
        decided = [one for one in approvals.of_incident(found, INCIDENT) if one.decision is not Decision.PENDING]
        switched = [one for one in timeline.read(found, INCIDENT) if isinstance(one.event, NodeHelperSwitched)]
        captures = [evidence.capture_of(found, seal.id) for seal in evidence.seals(found, INCIDENT)]
        sealed = [one for one in captures if any(i.kind == REFERENCE for i in evidence.items(found, INCIDENT, one))]
        return len(runs.of_incident(found, INCIDENT)) + len(decided) + len(switched) + len(sealed)


def obey(context: Context, conductor: Conductor, order: Order, namespace: str) -> None:
    wish = Wish(
        reason="a crash test",
        command=order.verb,
        accept_outage=True,
        shape=order.shape,
        canary=order.canary,
        accept_same_image=True,
        bindings=True,
    )
    match order.verb:
        case "node-on":
            node_helper.switch_on(context, incident_of(context), "a crash test")
        case "checkpoint":
            for made in checkpoint.checkpoint_all(context, incident_of(context), only="", say=print):
                print(made)
        case "keep":
            context.cluster.find(POD, namespace, THIEF)
            watcher = Watcher(context, print, lambda _incident: None, Options(guard=True))
            watcher.refresh()
            watcher.guard()
            watcher.close()
        case "contain" | "respond":
            playbook = str(FILES / order.playbook) if order.playbook.endswith(".yaml") else order.playbook
            found, _ = seek(
                context,
                order.target.split(),
                namespace=namespace,
                image="",
                siblings=False,
                playbook=playbook or verbs.COMPROMISED,
            )
            if order.verb == "contain":
                verbs.contain(context, conductor, found, wish)
            else:
                verbs.respond(context, conductor, playbook, found, wish)
        case "eradicate":
            verbs.eradicate(context, conductor, incident_of(context), wish)
        case "release":
            verbs.release(context, conductor, incident_of(context), wish)
        case "approve":
            decided = consent.decide(context, INCIDENT, Decision.APPROVED, reason="it is time")
            verbs.carry_on(context, conductor, decided.run)
        case "recover":
            for row in retest(context, incident_of(context)).rows:
                if row.is_open:
                    accept(context, incident_of(context), row.path, "looked at")
            verbs.recover(context, conductor, incident_of(context), replace(wish, revisions=(COMMIT,), watch_seconds=1))
        case "collect":
            for _, made in recapture_all(context, incident_of(context)):
                print(made)
        case "watch":
            conductor.launch()
            print("the engine runs", flush=True)
            while True:
                time.sleep(1)
        case other:
            raise ValueError(other)
