"""What becomes of a change of an object that Argo CD delivers, by what the objects themselves say."""

from __future__ import annotations

from typing import Any

import pytest

from ringfence.access.gitops import Kept, deliveries_of, judge
from ringfence.platform.argocd.applications import TRACKING_ID, Installation
from ringfence.platform.kubernetes.client import Cluster
from ringfence.platform.kubernetes.resources import APPLICATION
from tests.simulator import Fault, Simulator

Json = dict[str, Any]
FENCED = {"key": "ringfence.dev/fence", "operator": "DoesNotExist"}
OTHER = {"key": "tier", "operator": "Exists"}
POLICY = "networking.k8s.io/NetworkPolicy:bank/allow-dns"
BEFORE, LATER = "2026-11-23T03:00:00Z", "2026-11-23T03:00:05Z"


def policy(*expressions: Json, mark: str = f"bank:{POLICY}") -> Json:
    meta = {"name": "allow-dns", "namespace": "bank", "annotations": {TRACKING_ID: mark}}
    meta["managedFields"] = [{"manager": "ringfence", "time": BEFORE}]
    selector = {"matchExpressions": list(expressions)} if expressions else {}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": meta,
        "spec": {"podSelector": selector},
    }


def application(automated: Json | None, status: str = "", reconciled: str = BEFORE) -> Json:
    listed = {"group": "networking.k8s.io", "kind": "NetworkPolicy", "namespace": "bank", "name": "allow-dns"}
    return {
        "metadata": {"name": "bank", "namespace": "argocd", "uid": "a"},
        "spec": {"syncPolicy": {"automated": automated} if automated is not None else {}},
        "status": {"resources": [{**listed, "status": status}], "reconciledAt": reconciled},
    }


@pytest.mark.parametrize(
    ("obj", "app", "changed", "kept"),
    [
        (policy(OTHER, FENCED), application({"selfHeal": True}), True, Kept.REVERTED),
        (policy(OTHER, FENCED), application({}), True, Kept.REVERTED),
        (policy(OTHER, FENCED), application({"enabled": False}), True, Kept.FROZEN),
        (policy(OTHER, FENCED), application(None, "Synced", LATER), True, Kept.FROZEN),
        (policy(OTHER, FENCED), application(None, "OutOfSync"), True, Kept.LEFT),
        (policy(OTHER), application({"selfHeal": True}), False, Kept.REVERTED),
        # Git has no list there: no drift, once Argo CD has looked at it since.
        (policy(FENCED), application({"selfHeal": True}, "Synced", BEFORE), True, Kept.FROZEN),
        (policy(FENCED), application({"selfHeal": True}, "Synced", LATER), True, Kept.LEFT),
        (policy(FENCED), application({"selfHeal": True}, "OutOfSync", LATER), True, Kept.FROZEN),
    ],
)
def test_what_becomes_of_a_change(obj: Json, app: Json, changed: bool, kept: Kept) -> None:
    (found,) = judge([obj], Installation((app,))).objects
    assert (found.changed, found.kept) == (changed, kept)


def test_an_application_elsewhere_is_named_and_a_foreign_mark_is_none() -> None:
    (found,) = judge([policy(FENCED, mark=f"hub:{POLICY}")], Installation()).objects
    assert (found.application, found.kept) == ("hub", Kept.ELSEWHERE)
    assert judge([policy(FENCED, mark="hub:networking.k8s.io/NetworkPolicy:bank/other")], Installation()).objects == ()


def test_a_hostile_name_is_printed_escaped() -> None:
    (found,) = judge([policy(FENCED, mark=f"hub\x1b[2J:{POLICY}")], Installation()).objects
    assert "\x1b" not in found.application


def test_applications_are_asked_for_only_where_something_bears_the_mark(
    cluster: Cluster, api: Simulator, wire: Any
) -> None:
    unmarked = policy(FENCED)
    del unmarked["metadata"]["annotations"]
    assert deliveries_of(cluster, [unmarked], []).objects == ()
    assert not any("argoproj.io" in request.path for request in wire.requests)
    api.faults.append(Fault("GET", APPLICATION.plural, 403, "no"))
    assert deliveries_of(cluster, [policy(FENCED)], []).unread
