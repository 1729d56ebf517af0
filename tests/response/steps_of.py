"""Short ways to contain a pod of the small bank and to look at what was left behind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ringfence.model.journal import ChangeRecord
from ringfence.model.timeline import Event
from ringfence.platform.kubernetes.resources import NETWORK_POLICY, POD
from ringfence.response import verbs
from ringfence.response.conduct import Conductor
from ringfence.response.context import Context
from ringfence.response.live import Live
from ringfence.response.orders import Found
from ringfence.response.results import Result
from ringfence.response.seek import seek
from ringfence.response.verbs import Wish
from ringfence.store import incidents, journal, timeline
from tests.response.inline_engine import InlineEngine
from tests.simulator import Simulator

Json = dict[str, Any]
FENCE_KEY = "ringfence.dev/fence"


def no(_question: str) -> bool:
    return False


_made: list[Conductor] = []


def conductor(context: Context, **live: Any) -> Conductor:
    """That of a new command; the one before has ended by now, as its process would have: two would carry on one run.

    The last is let go of when the test is over: its threads ask the store four times a second.
    """
    let_go()
    _made.append(Conductor(context, InlineEngine(), Live(**live)))
    return _made[-1]


def let_go() -> None:
    while _made:
        _made.pop().close()


def found(context: Context, *specs: str, **more: Any) -> tuple[Found, ...]:
    options = {"namespace": "bank", "image": "", "siblings": False, "playbook": verbs.COMPROMISED, **more}
    return seek(context, specs, **options)[0]


def contained(
    context: Context,
    *names: str,
    accept_outage: bool = False,
    ask: Callable[[str], bool] = no,
    on_cut: Callable[..., None] = lambda *_: None,
    **wish: Any,
) -> Result:
    wanted = Wish(reason="suspicious egress", command="contain", accept_outage=accept_outage, **wish)
    pods = found(context, *(names or ("cards-1",)))
    return verbs.contain(context, conductor(context, ask=ask, on_cut=on_cut), pods, wanted)


def eradicated(context: Context, incident_id: str = "INC-1", *, break_glass: str = "") -> Result:
    with context.store.read() as session:
        incident = incidents.get(session, incident_id)
    return verbs.eradicate(context, conductor(context), incident, Wish(command="eradicate", break_glass=break_glass))


def released(context: Context, incident_id: str = "INC-1") -> Result:
    with context.store.read() as session:
        incident = incidents.get(session, incident_id)
    return verbs.release(context, conductor(context), incident, Wish(command="release"))


def events(context: Context, incident: str = "INC-1") -> list[Event]:
    with context.store.read() as session:
        return [entry.event for entry in timeline.read(session, incident)]


def types(context: Context, incident: str = "INC-1") -> list[str]:
    return [event.type for event in events(context, incident)]


def changes(context: Context, incident: str = "INC-1") -> dict[str, ChangeRecord]:
    """The journal by ``step:change``."""
    with context.store.read() as session:
        return {f"{record.step}:{record.change.id}": record for record in journal.of_incident(session, incident)}


def labels(api: Simulator, name: str = "cards-1") -> Json:
    pod = api.get(POD, "bank", name)
    assert pod is not None
    return dict(pod["metadata"]["labels"])


def is_fenced(api: Simulator, name: str = "cards-1") -> bool:
    return FENCE_KEY in labels(api, name)


def policy(api: Simulator, name: str) -> Json | None:
    found = api.get(NETWORK_POLICY, "bank", name)
    return None if found is None else dict(found["spec"])


def deny_policies(api: Simulator) -> list[str]:
    names = [obj["metadata"]["name"] for obj in api.all(NETWORK_POLICY)]
    return [name for name in names if name.startswith("ringfence-")]
