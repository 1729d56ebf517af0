"""Short ways to contain a pod of the small bank and to look at what was left behind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ringfence.model.journal import ChangeRecord
from ringfence.model.timeline import Event
from ringfence.platform.kubernetes.resources import NETWORK_POLICY, POD
from ringfence.response.contain import Containment, Request, contain
from ringfence.response.context import Context
from ringfence.store import journal, timeline
from tests.simulator import Simulator

Json = dict[str, Any]
FENCE_KEY = "ringfence.dev/fence"


def no(_question: str) -> bool:
    return False


def contained(
    context: Context,
    name: str = "cards-1",
    *,
    accept_outage: bool = False,
    ask: Callable[[str], bool] = no,
    on_cut: Callable[..., None] = lambda *_: None,
) -> Containment:
    request = Request("bank", name, "suspicious egress", "contain", accept_outage)
    return contain(context, request, ask=ask, on_cut=on_cut)


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
