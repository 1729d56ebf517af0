"""``identity.recreate_account``: the same account under another uid; nothing of it comes back by undo."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from ringfence.actions.base import Settings
from ringfence.actions.recreate import RecreateAccount
from ringfence.model.objects import ObjectRef
from ringfence.model.outcome import Applied, Failed, Refused
from ringfence.model.proof import Level
from ringfence.platform.kubernetes.client import Cluster
from ringfence.platform.kubernetes.resources import POD, SERVICE_ACCOUNT
from tests.actions.planning import (
    FENCE,
    apply,
    planned,
    record,
    records,
    ref_of,
    refused,
    without_server_fields,
)
from tests.simulator import Fault, Simulator


@pytest.fixture
def action(cluster: Cluster) -> RecreateAccount:
    return RecreateAccount(cluster, Settings(FENCE, 1))


@pytest.fixture
def target(api: Simulator) -> ObjectRef:
    return ref_of(api, POD, "cards-1")


def account(api: Simulator) -> dict[str, object]:
    found = api.get(SERVICE_ACCOUNT, "bank", "cards")
    assert found is not None
    return found


def test_the_account_is_as_it_was_but_for_its_uid_and_the_secrets_that_died(
    action: RecreateAccount, target: ObjectRef, api: Simulator, pool: ThreadPoolExecutor
) -> None:
    live = next(obj for key, obj in api.objects.items() if key[1] == "serviceaccounts")
    live["metadata"]["annotations"] = {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/x"}
    live |= {"imagePullSecrets": [{"name": "pull"}], "secrets": [{"name": "cards-token-x"}]}
    before = without_server_fields(account(api))
    plan = planned(action, target, pool)
    assert [ref.uid for ref in plan.destroys] == [before["metadata"]["uid"]]
    assert any("cards-2" in caveat for caveat in plan.caveats), "who else feels it"
    answers = apply(action, plan)
    assert {one.outcome for one in answers.values()} == {Applied()}
    after = without_server_fields(account(api))
    assert after["metadata"].pop("uid") != before["metadata"].pop("uid")
    del before["secrets"]
    assert after == before
    assert action.verify(target, records(plan, answers)).level is Level.COMPUTED
    assert isinstance(action.undo(record(plan, "delete-account", answers)), Refused)


def test_an_account_that_is_another_by_now_is_not_deleted(
    action: RecreateAccount, target: ObjectRef, api: Simulator, pool: ThreadPoolExecutor
) -> None:
    plan = planned(action, target, pool)
    api.add(SERVICE_ACCOUNT, "bank", "cards")
    uid = account(api)["metadata"]
    assert isinstance(action.apply(plan.changes[0], "a").outcome, Failed) or account(api)["metadata"] == uid
    assert account(api)["metadata"] == uid
    assert plan.changes[0].needed, "nothing is created where nothing was deleted"


def test_an_account_that_something_holds_is_left(
    action: RecreateAccount, target: ObjectRef, api: Simulator, pool: ThreadPoolExecutor
) -> None:
    live = next(obj for key, obj in api.objects.items() if key[1] == "serviceaccounts")
    live["metadata"]["finalizers"] = ["example.com/hold"]
    assert "finalizer" in refused(action, target, pool).reason


def test_the_old_account_still_there_is_no_proof(
    action: RecreateAccount, target: ObjectRef, api: Simulator, pool: ThreadPoolExecutor
) -> None:
    plan = planned(action, target, pool)
    api.faults.append(Fault("DELETE", "/serviceaccounts/cards", 500))
    answers = {change.id: action.apply(change, change.id) for change in plan.changes[:1]}
    made = (record(plan, "delete-account", answers),)
    assert action.verify(target, made).level is Level.REQUESTED
