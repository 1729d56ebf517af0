"""What a group's cut means for customers: each Service keeps its floor, pods in the order in which they were named."""

from __future__ import annotations

from typing import Any

from ringfence.model.incident import Severity
from ringfence.response.context import Policy
from ringfence.response.guard import breaker, needs_second_person, survey

Json = dict[str, Any]
POLICY = Policy(
    serving_floor=1,
    pre_cut_wait_ms=0,
    seal_max_age_seconds=900,
    delete_wait_seconds=1,
    token_canary=False,
    protected_namespaces=(),
    protected_label="x",
    blast_radius_pods=3,
    hourly_pods=10,
    critical_reserve=0.4,
)


def pod(number: int, app: str = "web", namespace: str = "bank") -> Json:
    name = f"{app}-{number}"
    return {"metadata": {"name": name, "uid": f"{namespace}/{name}", "namespace": namespace, "labels": {"app": app}}}


def service(app: str, namespace: str = "bank") -> Json:
    return {"metadata": {"name": app, "namespace": namespace}, "spec": {"selector": {"app": app}}}


def ready(app: str, *pods: Json, namespace: str = "bank") -> Json:
    return {
        "metadata": {"name": app, "namespace": namespace, "labels": {"kubernetes.io/service-name": app}},
        "endpoints": [{"targetRef": {"uid": one["metadata"]["uid"]}} for one in pods],
    }


def test_all_but_the_floor_are_cut_and_the_last_one_is_held() -> None:
    pods = [pod(n) for n in range(4)]
    found = survey(pods, [service("web")], [ready("web", *pods)], floor=1)
    assert set(found.held) == {"bank/web-3"}
    assert "web would have 0 of 4 serving (floor 1)" in found.held["bank/web-3"]
    assert found.serving == 4


def test_a_pod_that_serves_nobody_is_never_held() -> None:
    idle, busy = pod(1), pod(2)
    assert survey([idle], [service("web")], [ready("web", busy)], floor=1).held == {}
    assert survey([idle], [], [], floor=5).held == {}


def test_a_service_below_its_floor_already_is_not_brought_lower() -> None:
    pods = [pod(1), pod(2)]
    found = survey(pods, [service("web")], [ready("web", *pods)], floor=5)
    assert set(found.held) == {"bank/web-1", "bank/web-2"}


def test_services_of_the_same_name_in_other_namespaces_are_others() -> None:
    here, there = pod(1), pod(1, namespace="shop")
    found = survey(
        [here, there],
        [service("web"), service("web", "shop")],
        [ready("web", here, pod(2)), ready("web", there, namespace="shop")],
        floor=1,
    )
    assert set(found.held) == {"shop/web-1"}


def test_a_held_pod_keeps_serving_in_the_count() -> None:
    """What is held is not taken away: a later pod is not judged as if it were."""
    first, second = pod(1), pod(2)
    found = survey([first, second], [service("web")], [ready("web", first, second)], floor=2)
    assert set(found.held) == {"bank/web-1", "bank/web-2"}


def test_above_the_cap_one_person_is_not_enough() -> None:
    assert needs_second_person(3, POLICY) == ""
    assert "a second person" in needs_second_person(4, POLICY)


def test_decoys_cannot_spend_what_is_kept_for_critical_incidents() -> None:
    assert breaker(4, 2, Severity.HIGH, POLICY) == ""
    assert "4 kept for critical" in breaker(5, 2, Severity.HIGH, POLICY)
    assert breaker(8, 2, Severity.CRITICAL, POLICY) == ""
    assert breaker(9, 2, Severity.CRITICAL, POLICY) != ""
