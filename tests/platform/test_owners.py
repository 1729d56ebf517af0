"""The chain of controllers above a pod: how far it can be read, and what is said where it ends."""

from __future__ import annotations

from typing import Any

import pytest

from ringfence.errors import Unanswered
from ringfence.platform.kubernetes.client import Cluster
from ringfence.platform.kubernetes.owners import controller_of, owner_chain
from ringfence.platform.kubernetes.resources import DEPLOYMENT, POD, REPLICA_SET
from tests.simulator import Fault, Simulator
from tests.wire import Answer, Wire

Json = dict[str, Any]
FORBIDDEN = 'replicasets is forbidden: User "alice" cannot get resource "replicasets" in API group "apps"'


def chain(cluster: Cluster, api: Simulator) -> list[tuple[str, str, bool, str]]:
    pod = api.get(POD, "bank", "cards-1")
    assert pod is not None
    return [(o.ref.kind, o.ref.name, o.obj is not None, o.why) for o in owner_chain(cluster, "c1", pod)]


def test_the_chain_is_nearest_first_and_keeps_the_bytes(cluster: Cluster, api: Simulator) -> None:
    assert chain(cluster, api) == [("ReplicaSet", "cards-6b7f", True, ""), ("Deployment", "cards", True, "")]
    pod = api.get(POD, "bank", "cards-1")
    assert pod is not None
    owner = owner_chain(cluster, "c1", pod)[0]
    assert owner.raw is not None
    assert owner.ref.cluster == "c1"
    assert owner.ref.uid in owner.raw.decode()


@pytest.mark.parametrize("references", [None, [], [{"kind": "Node", "name": "n", "uid": "u"}]])
def test_a_pod_without_a_controller_has_no_chain(cluster: Cluster, references: list[Json] | None) -> None:
    pod = {"metadata": {"name": "x", "namespace": "bank", "ownerReferences": references}}
    assert owner_chain(cluster, "c1", pod) == ()


def test_only_the_controlling_reference_counts() -> None:
    other, controller = {"kind": "A", "uid": "1"}, {"kind": "B", "uid": "2", "controller": True}
    assert controller_of({"metadata": {"ownerReferences": [other, controller]}}) == controller


def test_an_owner_that_is_gone_ends_the_chain_and_is_named(cluster: Cluster, api: Simulator) -> None:
    key = next(key for key in api.objects if key[1] == "replicasets")
    reference = api.objects.pop(key)
    ((kind, name, readable, why),) = chain(cluster, api)
    assert (kind, name, readable) == ("ReplicaSet", reference["metadata"]["name"], False)
    assert "does not exist" in why


def test_an_owner_of_the_same_name_but_another_uid_is_not_the_owner(cluster: Cluster, api: Simulator) -> None:
    owner = api.get(REPLICA_SET, "bank", "cards-6b7f")
    assert owner is not None
    pod = {
        "metadata": {
            "name": "x",
            "namespace": "bank",
            "ownerReferences": [
                {
                    "apiVersion": "apps/v1",
                    "kind": "ReplicaSet",
                    "name": "cards-6b7f",
                    "uid": "an-older-one",
                    "controller": True,
                }
            ],
        }
    }
    (found,) = owner_chain(cluster, "c1", pod)
    assert (found.raw, found.ref.uid) == (None, "an-older-one")
    assert "another one" in found.why


def test_an_owner_that_may_not_be_read_ends_the_chain_and_says_so(cluster: Cluster, api: Simulator) -> None:
    api.faults.append(Fault("GET", "/replicasets/cards-6b7f", 403, FORBIDDEN))
    ((_, _, readable, why),) = chain(cluster, api)
    assert not readable
    assert "cannot get" in why


def test_a_kind_of_an_operator_is_named_and_not_fetched(cluster: Cluster, wire: Wire) -> None:
    reference = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", "name": "r", "uid": "u", "controller": True}
    (owner,) = owner_chain(cluster, "c1", {"metadata": {"namespace": "bank", "ownerReferences": [reference]}})
    assert (owner.ref.kind, owner.raw) == ("Rollout", None)
    assert "Rollout" in owner.why
    assert not any("rollouts" in request.path for request in wire.requests)


def test_an_unanswered_read_is_no_end_of_the_chain(cluster: Cluster, api: Simulator) -> None:
    api.faults.append(Fault("GET", "/deployments/cards", 503))
    with pytest.raises(Unanswered):
        chain(cluster, api)


def test_an_owner_that_is_no_object_is_an_error_of_ours(cluster: Cluster, wire: Wire, api: Simulator) -> None:
    wire.responder = lambda request: Answer(body=b"<html>") if "replicasets" in request.path else api(request)
    with pytest.raises(Unanswered):
        chain(cluster, api)


def test_owners_in_a_circle_end(cluster: Cluster, api: Simulator) -> None:
    owner, top = api.get(REPLICA_SET, "bank", "cards-6b7f"), api.get(DEPLOYMENT, "bank", "cards")
    assert owner is not None
    assert top is not None
    back = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "cards-6b7f", "controller": True}
    api.add(
        DEPLOYMENT,
        "bank",
        "cards",
        {"spec": {}},
        uid=top["metadata"]["uid"],
        ownerReferences=[{**back, "uid": owner["metadata"]["uid"]}],
    )
    assert 2 < len(chain(cluster, api)) < 20
