"""Whose a field is, by managedFields as kube-apiserver writes them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from ringfence.model.journal import ChangeRecord
from ringfence.model.objects import ObjectRef
from ringfence.model.outcome import Already, Applied, Outcome
from ringfence.model.plan import Change, Verb
from ringfence.response.watching.ownership import Owner, set_anew_by

NOW = datetime(2026, 11, 24, 3, 0, tzinfo=UTC)
APPLIED = Applied()
EDITED = "2026-11-24T03:05:00Z"
LABEL = "ringfence.dev/fence"
DETACH = [
    {"op": "test", "path": "/metadata/uid", "value": "u1"},
    {"op": "remove", "path": "/metadata/labels/app"},
    {"op": "add", "path": "/metadata/labels/ringfence.dev~1fence", "value": "f"},
]
EXCLUDE = [{"op": "add", "path": "/spec/podSelector/matchExpressions/-", "value": {"key": LABEL, "operator": "Exists"}}]
DENY = {
    "metadata": {"name": "ringfence-f"},
    "spec": {"podSelector": {"matchLabels": {LABEL: "f"}}, "policyTypes": ["Ingress", "Egress"]},
}


def record(kind: str, verb: Verb, body: Any, outcome: Outcome = APPLIED) -> ChangeRecord:
    ref = ObjectRef(cluster="c", api_version="v1", kind=kind, namespace="bank", name="x", uid="u1")
    return ChangeRecord(
        incident="INC-1",
        step="cut/1",
        action="network.quarantine",
        ordinal=0,
        audit_id="a",
        change=Change(id="c", ref=ref, verb=verb, body=body, effect="e"),
        outcome=outcome,
        intended_at=NOW,
    )


def owned(manager: str, fields: Any, **more: Any) -> dict[str, Any]:
    return {"manager": manager, "operation": "Update", "time": EDITED, "fieldsV1": fields, **more}


def label(*names: str) -> Any:
    return {"f:metadata": {"f:labels": {".": {}, **{f"f:{name}": {} for name in names}}}}


SELECTOR = {"f:spec": {"f:podSelector": {}}}
TYPES = {"f:spec": {"f:policyTypes": {}}}
ALL = {"f:spec": {"f:podSelector": {}, "f:policyTypes": {}}}
POD_CUT = ("Pod", Verb.PATCH, DETACH)
EXCLUSION = ("NetworkPolicy", Verb.PATCH, EXCLUDE)
DENIAL = ("NetworkPolicy", Verb.CREATE, DENY)


@pytest.mark.parametrize(
    ("change", "entries", "taken"),
    [
        (POD_CUT, [owned("ringfence", label(LABEL)), owned("helm", label("app"))], False),
        (POD_CUT, [owned("kubectl-label", label(LABEL)), owned("helm", label("app"))], True),
        (POD_CUT, [owned("ringfence", label("other")), owned("kubectl-label", label(LABEL))], True),
        # An apply of the same value shares it, and changes nothing.
        (POD_CUT, [owned("ringfence", label(LABEL)), owned("argocd", label(LABEL), operation="Apply")], False),
        # The kubelet's status is not who set a label.
        (POD_CUT, [owned("kubelet", label(LABEL), subresource="status")], False),
        (POD_CUT, [], False),
        (EXCLUSION, [owned("ringfence", SELECTOR)], False),
        (EXCLUSION, [owned("kubectl-edit", SELECTOR)], True),
        (DENIAL, [owned("ringfence", ALL)], False),
        (DENIAL, [owned("ringfence", TYPES), owned("kubectl-edit", SELECTOR)], True),
        (DENIAL, [owned("ringfence", SELECTOR), owned("kubectl-edit", TYPES)], True),
    ],
)
def test_who_has_set_it_since_is_told_from_who_has_not(
    change: tuple[str, Verb, Any], entries: list[dict[str, Any]], taken: bool
) -> None:
    live = {"metadata": {"name": "x", "managedFields": entries}}
    found = set_anew_by(record(*change), live)
    assert (found is not None) is taken
    if found is not None:
        assert found == Owner(next(one["manager"] for one in entries if one["manager"].startswith("kubectl")), EDITED)


@pytest.mark.parametrize(("generation", "taken"), [(1, False), (None, False), (3, True)])
def test_a_rule_that_was_added_to_our_policy_and_is_gone_again_was_counted(generation: Any, taken: bool) -> None:
    """Whoever opened the fence for a minute owns nothing of it afterwards."""
    entries = [owned("ringfence", ALL), owned("kubectl-patch", {"f:metadata": {"f:annotations": {}}})]
    live = {"metadata": {"name": "x", "generation": generation, "managedFields": entries}}
    found = set_anew_by(record(*DENIAL), live)
    assert found == (Owner("kubectl-patch", EDITED, 2) if taken else None)


def test_a_policy_that_others_made_may_be_changed_by_others() -> None:
    """Of it we hold the exclusion, and no rule."""
    live = {"metadata": {"name": "x", "generation": 9, "managedFields": [owned("ringfence", SELECTOR)]}}
    assert set_anew_by(record(*EXCLUSION), live) is None


def test_nobody_is_named_who_left_no_trace() -> None:
    live = {"metadata": {"name": "x", "generation": 3, "managedFields": [owned("ringfence", ALL)]}}
    assert set_anew_by(record(*DENIAL), live) == Owner("", "", 2)


def test_what_was_so_before_us_was_never_ours() -> None:
    live = {"metadata": {"name": "x", "managedFields": [owned("kubectl", label(LABEL))]}}
    assert set_anew_by(record(*POD_CUT, Already(reason="it is so")), live) is None


def test_of_kinds_whose_fields_controllers_set_nothing_is_said() -> None:
    live = {"metadata": {"name": "x", "managedFields": [owned("hpa", {"f:spec": {"f:replicas": {}}})]}}
    scale = [{"op": "replace", "path": "/spec/replicas", "value": 0}]
    assert set_anew_by(record("Deployment", Verb.PATCH, scale), live) is None


@pytest.mark.parametrize("fields", [None, {}, [], "x", {"f:metadata": 1}, {"f:metadata": {"f:labels": []}}])
def test_fields_of_another_shape_own_nothing(fields: Any) -> None:
    live = {"metadata": {"name": "x", "managedFields": [owned("kubectl", fields)]}}
    assert set_anew_by(record(*POD_CUT), live) is None


def test_the_newest_owner_is_named_and_its_name_is_harmless() -> None:
    entries = [owned("old", label(LABEL), time="2026-11-24T03:01:00Z"), owned("\x1b[2Jnew", label(LABEL))]
    found = set_anew_by(record(*POD_CUT), {"metadata": {"name": "x", "managedFields": entries}})
    assert found is not None
    assert found.manager.endswith("new")
    assert found.manager.isprintable()
