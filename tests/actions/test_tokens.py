"""``identity.delete_tokens``: found and deleted by metadata; nothing of a Secret's contents ever gets to us."""

from __future__ import annotations

import base64
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from ringfence.actions.base import Settings
from ringfence.actions.tokens import DeleteTokens
from ringfence.model.objects import ObjectRef
from ringfence.model.outcome import Already, Applied, Refused
from ringfence.model.proof import Level
from ringfence.platform.kubernetes.client import Cluster
from ringfence.platform.kubernetes.resources import POD, SECRET
from tests.actions.planning import FENCE, answer, apply, planned, record, records, ref_of, refused
from tests.simulator import Simulator
from tests.wire import Wire

NAMED = {"kubernetes.io/service-account.name": "cards"}
TYPE = "kubernetes.io/service-account-token"
TOKEN = base64.b64encode(b"eyJ-the-token").decode()


@pytest.fixture
def action(cluster: Cluster) -> DeleteTokens:
    return DeleteTokens(cluster, Settings(FENCE, 1))


@pytest.fixture
def target(api: Simulator) -> ObjectRef:
    return ref_of(api, POD, "cards-1")


def secrets(api: Simulator) -> set[str]:
    return {obj["metadata"]["name"] for obj in api.all(SECRET)}


def add(api: Simulator, name: str, kind: str = TYPE, **meta: Any) -> None:
    api.add(SECRET, "bank", name, {"type": kind, "data": {"token": TOKEN}}, **{"annotations": NAMED, **meta})


def test_only_the_accounts_own_tokens_go_and_they_do_not_come_back(
    action: DeleteTokens, target: ObjectRef, api: Simulator, pool: ThreadPoolExecutor
) -> None:
    add(api, "second")
    add(api, "of-another", annotations={"kubernetes.io/service-account.name": "payments"})
    add(api, "a-password", "Opaque")
    plan = planned(action, target, pool)
    assert {ref.name for ref in plan.destroys} == {"cards-token", "second"}
    answers = apply(action, plan)
    assert {one.outcome for one in answers.values()} == {Applied()}
    assert secrets(api) == {"of-another", "a-password"}
    assert action.verify(target, records(plan, answers)).level is Level.COMPUTED
    assert isinstance(answer(action, target, pool), Already)
    assert isinstance(action.undo(record(plan, "delete-second", answers)), Refused)


def test_contents_are_neither_asked_for_nor_kept_even_if_they_are_sent(
    action: DeleteTokens, target: ObjectRef, api: Simulator, wire: Wire, pool: ThreadPoolExecutor
) -> None:
    """The simulator sends whole Secrets whatever is asked for, as a proxy in between might."""
    applied = {"kubectl.kubernetes.io/last-applied-configuration": f'{{"data": {{"token": "{TOKEN}"}}}}'}
    add(api, "applied", annotations={**NAMED, **applied}, managedFields=[{"x": TOKEN}])
    wire.requests.clear()
    plan = planned(action, target, pool)
    assert TOKEN not in plan.model_dump_json()
    asked = [request for request in wire.requests if "/secrets" in request.path and request.method == "GET"]
    assert asked
    assert all("as=PartialObjectMetadata" in request.headers["accept"] for request in asked)


def test_who_uses_a_secret_and_what_holds_one_is_said(
    action: DeleteTokens, target: ObjectRef, api: Simulator, pool: ThreadPoolExecutor
) -> None:
    pod = next(obj for obj in api.all(POD) if obj["metadata"]["name"] == "cards-2")
    pod["spec"]["volumes"].append({"name": "t", "secret": {"secretName": "cards-token"}})
    assert any("cards-2" in caveat for caveat in planned(action, target, pool).caveats)
    add(api, "held", finalizers=["example.com/hold"])
    assert "held" in refused(action, target, pool).reason


def test_one_that_came_back_is_seen(
    action: DeleteTokens, target: ObjectRef, api: Simulator, pool: ThreadPoolExecutor
) -> None:
    plan = planned(action, target, pool)
    answers = apply(action, plan)
    add(api, "new-door")
    proof = action.verify(target, records(plan, answers))
    assert (proof.level, proof.why_not_higher) == (Level.REQUESTED, "new-door")
