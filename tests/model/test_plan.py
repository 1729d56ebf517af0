"""Plans: hashes over anything that a cluster may hold, audit ids, and what "keeps the floor" means."""

from __future__ import annotations

from typing import Any

import pytest

from ringfence.model.objects import ObjectRef
from ringfence.model.plan import Change, Impact, Plan, ServiceImpact, Verb

REF = ObjectRef(cluster="c1", api_version="v1", kind="Pod", namespace="bank", name="cards-1", uid="u1")


def plan_of(prior: dict[str, Any]) -> Plan:
    change = Change(id="detach", ref=REF, verb=Verb.PATCH, body=[], prior=prior, effect="cut")
    impact = Impact(pods=1, replacement="nobody", replacement_expected=False)
    return Plan(action="network.quarantine", target=REF, changes=(change,), impact=impact)


@pytest.mark.parametrize("number", [2**53 - 1, 2**53, 2**63 - 1, -(2**63), 0, 1.5])
def test_a_plan_has_a_hash_whatever_numbers_the_pod_holds(number: float) -> None:
    pod = {"spec": {"tolerations": [{"tolerationSeconds": number}], "automountServiceAccountToken": True}}
    assert len(plan_of(pod).sha256()) == 64


def test_the_hash_depends_on_the_content_and_not_on_the_order_of_members() -> None:
    assert plan_of({"a": 1, "b": 2}).sha256() == plan_of({"b": 2, "a": 1}).sha256()
    assert plan_of({"a": 2**63 - 1}).sha256() != plan_of({"a": 2**63 - 2}).sha256()


def test_the_same_change_carries_the_same_audit_id_and_another_one_another() -> None:
    change = plan_of({}).changes[0]
    other = change.model_copy(update={"id": "deny-all"})
    ids = {
        change.audit_id("INC-1", "f1", "contain/1"),
        change.audit_id("INC-1", "f1", "contain/2"),
        change.audit_id("INC-2", "f2", "contain/1"),
        change.audit_id("INC-1", "f3", "contain/1"),  # another store's INC-1
        other.audit_id("INC-1", "f1", "contain/1"),
    }
    assert len(ids) == 5
    assert change.audit_id("INC-1", "f1", "contain/1") in ids


@pytest.mark.parametrize(
    ("before", "after", "floor", "keeps"),
    [
        (2, 1, 1, True),
        (1, 0, 1, False),
        (2, 1, 2, False),
        (0, 0, 1, True),  # it serves nobody already
        (1, 1, 3, True),  # below its floor already, and not brought lower
        (2, 1, 3, False),  # below its floor already, and brought lower
        (1, 0, 0, True),
    ],
)
def test_a_service_keeps_its_floor_or_what_it_had_when_that_was_less(
    before: int, after: int, floor: int, keeps: bool
) -> None:
    service = ServiceImpact(
        service="cards", ready_before=before, ready_after=after, ready_with_replacement=after, floor=floor
    )
    assert service.keeps_floor is keeps
