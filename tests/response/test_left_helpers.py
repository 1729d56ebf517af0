"""What ``ringfence watch`` does about pods of the node helper that nobody takes away."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from ringfence.actions.node_helper import Options
from ringfence.model.incident import State
from ringfence.model.timeline import NodeHelperSwitched
from ringfence.platform.kubernetes.node_helpers import HELPER_KEY, HELPER_OF_KEY, of_target
from ringfence.platform.kubernetes.resources import NAMESPACE, POD
from ringfence.response.context import Context, now
from ringfence.response.watching.helpers import Sweeper
from ringfence.store import incidents, timeline
from tests.response.steps_of import contained, types
from tests.simulator import Fault, Simulator

HELPERS = "helpers"
LATEST_SECONDS = 60 + 90 + 30
"""To start, its deadline, to go."""


@pytest.fixture
def here(context: Context, api: Simulator, with_policy: Callable[..., Context]) -> Context:
    """An incident for which the helper is on."""
    api.add(NAMESPACE, "", HELPERS)
    contained(context)
    own = with_policy(node_helper=Options(image="python", namespace=HELPERS))
    switch(own, on=True)
    return own


def switch(context: Context, *, on: bool) -> None:
    with context.store.write() as session:
        timeline.append(
            session, "INC-1", NodeHelperSwitched(occurred_at=now(), actor=context.actor, on=on, reason="why"), now()
        )


def close(context: Context) -> None:
    with context.store.write() as session:
        incident = incidents.get(session, "INC-1")
        incidents.move(session, incident, State.CLOSED, actor=context.actor, now=now())


def helper(context: Context, api: Simulator, *, age_seconds: int = 5, of: str = "") -> None:
    with context.store.read() as session:
        incident = incidents.get(session, "INC-1")
    api.add(
        POD,
        HELPERS,
        "ringfence-node-1",
        {"spec": {"activeDeadlineSeconds": 90, "containers": []}},
        labels={HELPER_KEY: "1", HELPER_OF_KEY: of or of_target(incident.fence, incident.target.uid)},
    )
    live: Any = api.objects["/api/v1", "pods", HELPERS, "ringfence-node-1"]
    live["metadata"]["creationTimestamp"] = (now() - timedelta(seconds=age_seconds)).isoformat()


def is_there(api: Simulator) -> bool:
    return ("/api/v1", "pods", HELPERS, "ringfence-node-1") in api.objects


def swept(context: Context, rounds: int = 1) -> list[str]:
    said: list[str] = []
    sweeper = Sweeper(context, said.append)
    for _ in range(rounds):
        sweeper.sweep()
    return said


def test_a_run_that_is_under_way_is_left_alone(here: Context, api: Simulator) -> None:
    helper(here, api, age_seconds=LATEST_SECONDS - 20)
    assert swept(here) == []
    assert is_there(api)


def test_a_run_whose_owner_died_is_deleted_and_journalled(here: Context, api: Simulator) -> None:
    helper(here, api, age_seconds=LATEST_SECONDS + 20)
    before = types(here)
    (words,) = swept(here)
    assert "its run must be over: deleted" in words
    assert not is_there(api)
    assert [kind for kind in types(here)[len(before) :] if kind.startswith("change.")]


@pytest.mark.parametrize("ends", [lambda context: switch(context, on=False), close], ids=["off", "closed"])
def test_no_helper_outlives_its_permission(here: Context, api: Simulator, ends: Callable[[Context], None]) -> None:
    helper(here, api)
    ends(here)
    swept(here)
    assert not is_there(api)


def test_a_helper_that_takes_a_cut_back_after_the_incident_was_closed_may_run(here: Context, api: Simulator) -> None:
    close(here)
    switch(here, on=True)
    helper(here, api)
    assert swept(here) == []
    assert is_there(api)


def test_a_helper_of_nobody_known_is_named_once_and_left_alone(here: Context, api: Simulator) -> None:
    helper(here, api, age_seconds=9999, of="0123456789abcdef")
    (words,) = swept(here, rounds=3)
    assert "left alone" in words
    assert is_there(api)


def test_what_cannot_be_looked_at_is_said_once(here: Context, api: Simulator) -> None:
    api.faults.append(Fault("GET", f"/namespaces/{HELPERS}/pods", 403, "no"))
    (words,) = swept(here, rounds=3)
    assert "could not be looked at" in words
