"""What customers will feel when a pod leaves (pure): ready endpoints, replacement, quota, disruption budgets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal, InvalidOperation

from ringfence.model.base import Json
from ringfence.model.plan import Errors, Impact, ServiceImpact
from ringfence.platform.kubernetes.pods import is_ready
from ringfence.platform.kubernetes.selectors import matches, matches_map
from ringfence.platform.kubernetes.surroundings import Surroundings

_SERVICE_LABEL = "kubernetes.io/service-name"
_COMPUTE = ("cpu", "memory", "ephemeral-storage")
"""A quota's bare name of these means the requests."""
LEAVES_SECONDS = 5
"""How long new connections may go on to a pod that has left its Services: the endpoint controller writes it down, and
every node's proxy follows (kube-proxy syncs once a second at most by default). A cluster that programs its network more
slowly than that is slower than what is predicted here."""
_REPLACING = frozenset({"ReplicaSet", "StatefulSet", "DaemonSet", "ReplicationController"})


def services_of(pod: Json, services: Iterable[Json]) -> tuple[Json, ...]:
    """The Services whose selector matches the pod's labels. A Service without one selects nothing."""
    labels = pod["metadata"].get("labels") or {}
    return tuple(s for s in services if matches_map((s.get("spec") or {}).get("selector") or {}, labels))


def ready_endpoints(service: str, slices: Iterable[Json]) -> frozenset[str]:
    """The uids of the pods that a Service sends traffic to now (``ready`` unset means ready, by the API's word)."""
    return frozenset(
        str((endpoint.get("targetRef") or {}).get("uid", endpoint.get("addresses")))
        for endpoint_slice in slices
        if (endpoint_slice["metadata"].get("labels") or {}).get(_SERVICE_LABEL) == service
        for endpoint in endpoint_slice.get("endpoints") or ()
        if (endpoint.get("conditions") or {}).get("ready") in (None, True)
    )


def detach_impact(around: Surroundings, floor: int) -> Impact:
    """The blast radius of taking the pod out of its controller and its Services.

    ``floor`` is the number of ready endpoints that each Service keeps at least; a PodDisruptionBudget with
    ``minAvailable`` in numbers raises it.
    """
    expected, words = replacement(around)
    back = 1 if expected and is_ready(around.pod) else 0
    return _impact_of(around, floor, back=back, replacement=words, expected=expected)


def fence_impact(around: Surroundings, floor: int) -> Impact:
    """The blast radius of a fence in place: the pod stays an endpoint and answers nobody, so it counts as gone."""
    words = "nobody: the pod keeps its place, and its Services go on sending it requests"
    endless = "the pod stays an endpoint, until it is ended or its readiness probe fails"
    return _impact_of(around, floor, back=0, replacement=words, expected=False, endless=endless)


def still_sent_to(around: Surroundings) -> tuple[tuple[str, int], ...]:
    """The Services that send traffic to the pod now, each with its number of ready endpoints."""
    uid = around.pod["metadata"]["uid"]
    ready = {
        service["metadata"]["name"]: ready_endpoints(service["metadata"]["name"], around.endpoint_slices)
        for service in services_of(around.pod, around.services)
    }
    return tuple((name, len(uids)) for name, uids in ready.items() if uid in uids)


def _impact_of(
    around: Surroundings, floor: int, *, back: int, replacement: str, expected: bool, endless: str = ""
) -> Impact:
    pod = around.pod
    return leaving_impact(
        (pod,),
        around.services,
        around.endpoint_slices,
        around.disruption_budgets,
        floor,
        away=1,
        back=back,
        replacement=replacement,
        expected=expected,
        endless=endless,
    )


def leaving_impact(
    pods: Sequence[Json],
    services: Iterable[Json],
    slices: Sequence[Json],
    budgets: Sequence[Json],
    floor: int,
    *,
    away: int,
    back: int,
    replacement: str,
    expected: bool,
    endless: str = "",
) -> Impact:
    """The blast radius of ``pods`` that stop serving, ``away`` of them at a time; ``back`` come back to each Service.

    A Service counts those of its ready endpoints that are among the pods, wherever its selector points by now.
    ``endless``: why no end can be said to the errors; empty: the pods leave their Services at once.
    """
    uids = {str(pod["metadata"]["uid"]) for pod in pods}
    words: dict[str, None] = {}
    minimum = 0
    for pod in pods:
        of_pod, least = _budgets(pod, budgets)
        words.update(dict.fromkeys(of_pod))
        minimum = max(minimum, least)
    services = tuple(services)
    selected = {s["metadata"]["name"]: s for pod in pods for s in services_of(pod, services)}
    impacts = []
    for name, service in selected.items():
        ready = ready_endpoints(name, slices)
        after = len(ready) - min(away, len(ready & uids))
        impact = ServiceImpact(
            service=name,
            ready_before=len(ready),
            ready_after=after,
            ready_with_replacement=after + back,
            floor=max(floor, minimum),
        )
        impacts.append(impact.model_copy(update={"errors": _errors(impact, service, endless)}))
    return Impact(
        pods=len(pods),
        services=tuple(impacts),
        replacement=replacement,
        replacement_expected=expected,
        disruption_budgets=tuple(words),
    )


def _errors(impact: ServiceImpact, service: Json, endless: str) -> Errors:
    """How long new connections may fail, by what can be known: never how many there are."""
    if impact.taken == 0:
        return Errors(seconds=0, because="none of its ready endpoints goes")
    if not impact.keeps_floor or impact.ready_after == 0:
        left = f"{impact.ready_after} of {impact.ready_before} are left, and {max(impact.floor, 1)} must be"
        return Errors(seconds=None, because=left)
    if endless:
        return Errors(seconds=None, because=endless)
    if (service.get("spec") or {}).get("clusterIP") == "None":
        return Errors(
            seconds=None, because="the Service is headless: its clients keep the address for as long as they like"
        )
    return Errors(
        seconds=LEAVES_SECONDS, because="by then it has left the endpoints on every node, and the others serve"
    )


def replacement(around: Surroundings) -> tuple[bool, str]:
    """Whether somebody starts a replacement once the pod is detached, and who, or why nobody does."""
    controller = around.controller
    if controller is None:
        return False, "nobody: the pod has no controller"
    kind, name = controller.ref.kind, controller.ref.name
    if kind not in _REPLACING:
        return False, f"not known: its controller is a {kind}"
    if controller.obj is None:
        return False, f"not known: {kind} {name} could not be read ({controller.why})"
    desired = (controller.obj.get("spec") or {}).get("replicas")
    if desired == 0:
        return False, f"nobody: {kind} {name} is scaled to 0"
    short = quota_shortfall(around.pod, around.quotas)
    if short:
        return False, f"{kind} {name} would, but the quota is used up: {short}"
    return True, f"{kind} {name} starts one from the same template"


def quota_shortfall(pod: Json, quotas: Iterable[Json]) -> str:
    """Why a second pod like this one does not fit beside it (the detached one keeps counting); empty when it does.

    Quotas with scopes are counted as if they applied: rather a warning too many.
    """
    need = {**_requests(pod), "pods": Decimal(1), "count/pods": Decimal(1)}
    for quota in quotas:
        status = quota.get("status") or {}
        hard, used = status.get("hard") or {}, status.get("used") or {}
        for key, limit in hard.items():
            wanted = need.get(f"requests.{key}" if key in _COMPUTE else key)
            if wanted and _quantity(used.get(key, "0")) + wanted > _quantity(limit):
                return f"{quota['metadata']['name']} allows {key} {limit}, {used.get(key, '0')} in use"
    return ""


def _requests(pod: Json) -> dict[str, Decimal]:
    """Requests and limits as a quota counts them: the sum of the containers, or the largest init container."""
    totals: dict[str, Decimal] = {}
    for part in ("requests", "limits"):
        for resource in _COMPUTE:

            def of(container: Json, part: str = part, resource: str = resource) -> Decimal:
                return _quantity(((container.get("resources") or {}).get(part) or {}).get(resource, "0"))

            running = sum((of(c) for c in pod["spec"].get("containers") or ()), Decimal(0))
            starting = max((of(c) for c in pod["spec"].get("initContainers") or ()), default=Decimal(0))
            totals[f"{part}.{resource}"] = max(running, starting)
    return totals


def _budgets(pod: Json, budgets: Iterable[Json]) -> tuple[tuple[str, ...], int]:
    labels: Mapping[str, str] = pod["metadata"].get("labels") or {}
    words, minimum = [], 0
    for budget in budgets:
        spec = budget.get("spec") or {}
        if not matches(spec.get("selector"), labels):
            continue
        allowed = (budget.get("status") or {}).get("disruptionsAllowed", 0)
        words.append(f"{budget['metadata']['name']}: {allowed} disruptions allowed")
        if isinstance(spec.get("minAvailable"), int):
            minimum = max(minimum, spec["minAvailable"])
    return tuple(words), minimum


def _quantity(text: object) -> Decimal:
    from lightkube.utils.quantity import parse_quantity  # brings lightkube's models: only where a quota is weighed

    try:
        return parse_quantity(str(text)) or Decimal(0)
    except (ValueError, InvalidOperation):
        return Decimal(0)
