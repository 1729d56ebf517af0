"""What customers will feel: ready endpoints, replacements, quotas, disruption budgets."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from ringfence.model.objects import ObjectRef
from ringfence.model.plan import ServiceImpact
from ringfence.platform.kubernetes import serving
from ringfence.platform.kubernetes.owners import Owner
from ringfence.platform.kubernetes.surroundings import Reading, Surroundings

Json = dict[str, Any]
NOW = datetime(2026, 11, 23, 3, 0, tzinfo=UTC)


def a_pod(uid: str = "u1", *, ready: bool = True, **spec: Any) -> Json:
    return {
        "metadata": {"name": uid, "namespace": "bank", "uid": uid, "labels": {"app": "cards"}},
        "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}}}], **spec},
        "status": {"conditions": [{"type": "Ready", "status": "True" if ready else "False"}]},
    }


def service(name: str = "cards", selector: Json | None = None) -> Json:
    return {"metadata": {"name": name, "namespace": "bank"}, "spec": {"selector": selector}}


def endpoints(*uids: str, service: str = "cards", **conditions: Any) -> Json:
    return {
        "metadata": {"name": f"{service}-x", "namespace": "bank", "labels": {"kubernetes.io/service-name": service}},
        "endpoints": [{"targetRef": {"kind": "Pod", "uid": uid}, "conditions": conditions} for uid in uids],
    }


def around(pod: Json, *, owner: Json | None = None, kind: str = "ReplicaSet", **collections: Any) -> Surroundings:
    ref = ObjectRef(cluster="c1", api_version="apps/v1", kind=kind, namespace="bank", name="cards-6b7f", uid="o1")
    owners = () if owner is None else (Owner(ref, b"{}" if owner else None, owner or None, "" if owner else "denied"),)
    names = ("networkpolicies", "services", "endpointslices", "poddisruptionbudgets", "resourcequotas")
    return Surroundings(
        pod=pod,
        pod_reading=Reading("/", (b"{}",), NOW, NOW),
        owners=owners,
        collections={name: tuple(collections.get(name, ())) for name in names},
        readings={},
    )


def replica_set(replicas: int | None = 2) -> Json:
    return {"metadata": {"name": "cards-6b7f"}, "spec": {"replicas": replicas} if replicas is not None else {"x": 1}}


def quota(**hard_and_used: tuple[str, str]) -> Json:
    names = {key.replace("__", ".").replace("_", "/"): value for key, value in hard_and_used.items()}
    return {
        "metadata": {"name": "compute"},
        "status": {
            "hard": {key: hard for key, (hard, _) in names.items()},
            "used": {key: used for key, (_, used) in names.items() if used},
        },
    }


@pytest.mark.parametrize(
    ("selector", "serves"),
    [({"app": "cards"}, True), ({"app": "cards", "tier": "x"}, False), ({}, False), (None, False)],
)
def test_a_service_serves_what_its_selector_matches_and_without_one_nothing(
    selector: Json | None, serves: bool
) -> None:
    assert bool(serving.services_of(a_pod(), [service(selector=selector)])) is serves


def test_ready_endpoints_are_counted_by_pod_over_all_slices() -> None:
    slices = [
        endpoints("u1", "u2", ready=True),
        endpoints("u2", "u3"),  # unset means ready; u2 again: dual stack
        endpoints("u4", ready=False),
        endpoints("u5", ready=None),
        endpoints("u6", service="other", ready=True),
    ]
    assert serving.ready_endpoints("cards", slices) == {"u1", "u2", "u3", "u5"}


def test_endpoints_without_a_pod_are_told_apart_by_address() -> None:
    bare = endpoints()
    bare["endpoints"] = [{"addresses": ["10.0.0.1"]}, {"addresses": ["10.0.0.2"]}]
    assert len(serving.ready_endpoints("cards", [bare, {**bare, "endpoints": None}])) == 2


def test_the_impact_counts_before_after_and_with_the_replacement() -> None:
    impact = serving.detach_impact(
        around(
            a_pod(),
            owner=replica_set(),
            services=[service(selector={"app": "cards"})],
            endpointslices=[endpoints("u1", "u2")],
        ),
        1,
    )
    (cards,) = impact.services
    assert (cards.ready_before, cards.ready_after, cards.ready_with_replacement, cards.floor) == (2, 1, 2, 1)
    assert (impact.keeps_floor, impact.replacement_expected) == (True, True)


def test_the_last_pod_of_a_service_breaks_its_floor() -> None:
    impact = serving.detach_impact(
        around(a_pod(), services=[service(selector={"app": "cards"})], endpointslices=[endpoints("u1")]), 1
    )
    assert not impact.keeps_floor
    assert not impact.replacement_expected


def test_a_pod_that_was_not_ready_takes_nothing_away() -> None:
    impact = serving.detach_impact(
        around(
            a_pod(ready=False),
            owner=replica_set(),
            services=[service(selector={"app": "cards"})],
            endpointslices=[endpoints("u2", ready=True)],
        ),
        1,
    )
    (cards,) = impact.services
    assert (cards.ready_before, cards.ready_after, cards.ready_with_replacement) == (1, 1, 1)


@pytest.mark.parametrize(("minimum", "floor"), [(3, 3), (0, 1), ("50%", 1), (None, 1)])
def test_a_disruption_budget_in_numbers_raises_the_floor(minimum: Any, floor: int) -> None:
    budget = {
        "metadata": {"name": "cards"},
        "spec": {"selector": {"matchLabels": {"app": "cards"}}, "minAvailable": minimum},
        "status": {"disruptionsAllowed": 1},
    }
    impact = serving.detach_impact(
        around(a_pod(), services=[service(selector={"app": "cards"})], poddisruptionbudgets=[budget]), 1
    )
    assert impact.services[0].floor == floor
    assert impact.disruption_budgets == ("cards: 1 disruptions allowed",)


@pytest.mark.parametrize("selector", [{"matchLabels": {"app": "other"}}, None])
def test_a_disruption_budget_of_other_pods_is_not_spoken_of(selector: Json | None) -> None:
    budget = {"metadata": {"name": "x"}, "spec": {"selector": selector, "minAvailable": 9}}
    impact = serving.detach_impact(around(a_pod(), poddisruptionbudgets=[budget]), 1)
    assert impact.disruption_budgets == ()


@pytest.mark.parametrize(
    ("facts", "expected", "words"),
    [
        ({}, False, "no controller"),
        ({"owner": replica_set()}, True, "ReplicaSet cards-6b7f starts one"),
        ({"owner": replica_set(0)}, False, "scaled to 0"),
        ({"owner": {}}, False, "could not be read"),
        ({"owner": replica_set(), "kind": "Job"}, False, "controller is a Job"),
        ({"owner": replica_set(None), "kind": "DaemonSet"}, True, "DaemonSet"),
        ({"owner": replica_set(), "resourcequotas": [quota(pods=("2", "2"))]}, False, "quota is used up"),
    ],
)
def test_a_replacement_is_expected_only_when_somebody_can_start_it(facts: Json, expected: bool, words: str) -> None:
    answer, why = serving.replacement(around(a_pod(), **facts))
    assert answer is expected
    assert words in why


@pytest.mark.parametrize(
    ("quotas", "short"),
    [
        ([], False),
        ([quota(pods=("3", "2"))], False),
        ([quota(pods=("2", "2"))], True),
        ([quota(count_pods=("2", "2"))], True),
        ([quota(requests__cpu=("1", "900m"))], False),
        ([quota(requests__cpu=("1", "901m"))], True),
        ([quota(cpu=("1", "950m"))], True),  # the bare name means requests
        ([quota(memory=("128Mi", "65Mi"))], True),
        ([quota(memory=("128Mi", "64Mi"))], False),
        ([quota(limits__cpu=("1", "1"))], False),  # the pod has no limits: it asks for none
        ([quota(services=("1", "1"))], False),
        ([quota(pods=("1", ""))], False),  # nothing used yet
        ([quota(pods=("9", "2")), quota(pods=("2", "2"))], True),
        ([{"metadata": {"name": "new"}}], False),
    ],
)
def test_a_quota_is_short_when_a_second_pod_does_not_fit(quotas: list[Json], short: bool) -> None:
    assert bool(serving.quota_shortfall(a_pod(), quotas)) is short


def test_a_quota_of_ephemeral_storage_is_counted_under_both_its_names() -> None:
    pod = a_pod()
    pod["spec"]["containers"][0]["resources"]["requests"]["ephemeral-storage"] = "1Gi"
    for key in ("ephemeral-storage", "requests.ephemeral-storage"):
        full = {"metadata": {"name": "q"}, "status": {"hard": {key: "2Gi"}, "used": {key: "1500Mi"}}}
        assert serving.quota_shortfall(pod, [full])


def test_a_starting_pod_needs_what_its_largest_init_container_needs() -> None:
    pod = a_pod(initContainers=[{"name": "i", "resources": {"requests": {"cpu": "2"}}}])
    assert serving.quota_shortfall(pod, [quota(cpu=("2", "100m"))])
    assert not serving.quota_shortfall(pod, [quota(cpu=("3", "100m"))])


def test_a_quantity_that_cannot_be_read_breaks_nothing() -> None:
    pod = a_pod()
    pod["spec"]["containers"][0]["resources"]["requests"]["cpu"] = "lots"
    assert serving.quota_shortfall(pod, [quota(cpu=("1", "900m"))]) == ""


# --- which requests may fail ----------------------------------------------------------------------------------------
def predicted(*uids: str, floor: int = 1, fence: bool = False, **spec: Any) -> ServiceImpact:
    """Of a Service with these endpoints, of which ``u1`` goes."""
    made = service(selector={"app": "cards"})
    made["spec"].update(spec)
    surroundings = around(a_pod(), owner=replica_set(), services=[made], endpointslices=[endpoints(*uids)])
    impact = (serving.fence_impact if fence else serving.detach_impact)(surroundings, floor)
    (cards,) = impact.services
    return cards


def test_errors_end_when_a_detached_pod_has_left_the_endpoints() -> None:
    cards = predicted("u1", "u2")
    assert cards.errors is not None
    assert cards.errors.seconds == serving.LEAVES_SECONDS
    assert "1 of 2 new connections for 5 s at most" in cards.prediction


def test_a_pod_that_serves_nobody_costs_no_request() -> None:
    cards = predicted("u2", "u3")
    assert cards.errors is not None
    assert (cards.taken, cards.errors.seconds) == (0, 0)
    assert cards.prediction.startswith("no request fails")


@pytest.mark.parametrize(
    ("cards", "because"),
    [
        (predicted("u1"), "0 of 1 are left"),
        (predicted("u1", floor=0), "0 of 1 are left"),
        (predicted("u1", "u2", floor=2), "1 of 2 are left, and 2 must be"),
        (predicted("u1", "u2", fence=True), "stays an endpoint"),
        (predicted("u1", "u2", clusterIP="None"), "headless"),
    ],
    ids=["the last one", "the last one without a floor", "below the floor", "fenced in place", "headless"],
)
def test_no_end_is_said_where_none_is_known(cards: ServiceImpact, because: str) -> None:
    """A number here would be a promise that nobody can keep."""
    assert cards.errors is not None
    assert cards.errors.seconds is None
    assert because in cards.errors.because
    assert "no end can be said" in cards.prediction


def test_a_plan_of_a_version_that_predicted_nothing_is_read_as_that() -> None:
    old = {"service": "cards", "ready_before": 2, "ready_after": 1, "ready_with_replacement": 2, "floor": 1}
    assert ServiceImpact.model_validate(old).prediction == ""
