"""The rows of the statement: what each says for a pod that lives, that is gone, and that hides something."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ringfence.access import facts as gathering
from ringfence.access.facts import Facts
from ringfence.access.gitops import DeliveredObject, Deliveries, Kept
from ringfence.access.scaling import Scaler, Scaling
from ringfence.access.statement import rows
from ringfence.errors import PlatformError
from ringfence.model.access import AccessPath, PathState, Verdict, verdict
from ringfence.model.canary import CanaryPath, CanaryReport, Row, Seen
from ringfence.model.objects import ObjectRef
from ringfence.model.proof import Level
from ringfence.platform.kubernetes.client import Cluster
from ringfence.platform.kubernetes.policies import Isolation, evaluate
from ringfence.platform.kubernetes.resources import NETWORK_POLICY, POD, SERVICE_ACCOUNT
from ringfence.platform.kubernetes.surroundings import Siblings
from tests.simulator import Fault, Simulator
from tests.small_bank import POLICIES, pod_body

Json = dict[str, Any]
NOW = datetime(2026, 11, 23, 3, 0, tzinfo=UTC)
ALIVE, UNSEEN, DEAD = PathState.ALIVE, PathState.UNSEEN, PathState.DEAD
SCALING = "keda.scaling"
NO_SIBLINGS = Siblings((), (), "all namespaces")
CUT = Isolation(ingress_isolated=True, egress_isolated=True)


def a_pod(**changes: Any) -> Json:
    body = pod_body()
    body["spec"] |= changes
    return {"metadata": {"name": "cards-1", "namespace": "bank", "uid": "u1", "labels": {"app": "cards"}}, **body}


def facts(**changes: Any) -> Facts:
    """A pod with a controller that is cut off by policies, as computed."""
    pod = changes.pop("pod", a_pod())
    whole = Facts(
        pod=pod,
        live=pod,
        isolation=CUT,
        siblings=NO_SIBLINGS,
        siblings_unread="",
        account={"metadata": {"name": "cards"}},
        account_unread="",
        controller="ReplicaSet cards-6b7f",
        serving=(),
        token_refused=False,
        at=NOW,
    )
    return replace(whole, **changes)


def gone(**changes: Any) -> Facts:
    return facts(**{"live": None, "isolation": None, **changes})


def row(of: Facts, path: str) -> AccessPath:
    (found,) = [row for row in rows(of) if row.path == path]
    return found


def states(of: Facts) -> dict[str, PathState]:
    return {row.path: row.state for row in rows(of)}


def isolated_by(*names: str) -> Isolation:
    policies = [{"metadata": {"name": name, "namespace": "bank"}, "spec": POLICIES[name]} for name in names]
    return evaluate(a_pod(), policies)


def test_a_pod_that_is_cut_by_policies_is_unseen_until_a_packet_has_tried() -> None:
    of = facts()
    assert states(of) == {
        "network.egress": UNSEEN,
        "network.ingress": UNSEEN,
        "network.established": ALIVE,
        "network.dns": UNSEEN,
        "identity.kubernetes": ALIVE,
        "identity.legacy": UNSEEN,
        "persistence": UNSEEN,
        "siblings.image": DEAD,
        "siblings.account": DEAD,
        "workload.replacement": ALIVE,
        "node": UNSEEN,
    }
    assert verdict(rows(of)) is Verdict.NOT_FULLY_CONTAINED
    assert row(of, "network.egress").level is Level.COMPUTED
    assert "canary" in row(of, "network.egress").retest


def test_a_pod_that_is_gone_has_no_network_any_more() -> None:
    of = gone()
    for path in ("network.egress", "network.ingress", "network.established", "network.dns"):
        assert (row(of, path).state, row(of, path).level) == (DEAD, Level.OBSERVED)
    assert row(of, "node").state is UNSEEN, "what was done to the node outlives the pod"


@pytest.mark.parametrize("level", [Level.NONE, Level.REQUESTED, Level.COMPUTED])
def test_no_combination_of_facts_makes_a_row_dead_by_computation(level: Level) -> None:
    choices: dict[str, list[Any]] = {
        "pod": [a_pod(), a_pod(hostNetwork=True), a_pod(volumes=[])],
        "isolation": [CUT, isolated_by("allow-dns", "default-deny"), isolated_by()],
        "siblings": [NO_SIBLINGS, None, Siblings((a_pod(),), (), "namespace bank only", "denied")],
        "controller": ["", "ReplicaSet x"],
        "token_refused": [True, False],
        "alive": [True, False],
    }
    for combination in itertools.product(*choices.values()):
        chosen = dict(zip(choices, combination, strict=True))
        if not chosen.pop("alive"):
            chosen |= {"live": None, "isolation": None}
        assert not [row for row in rows(facts(**chosen)) if row.state is DEAD and row.level is level]


@pytest.mark.parametrize(
    ("policies", "egress", "ingress", "dns"),
    [
        ((), ALIVE, ALIVE, ALIVE),
        (("default-deny",), UNSEEN, UNSEEN, UNSEEN),
        (("default-deny", "allow-dns"), ALIVE, UNSEEN, ALIVE),
        (("default-deny", "allow-cards"), ALIVE, ALIVE, ALIVE),  # egress to 10.0.0.0/8, on every port
        (("allow-dns",), ALIVE, ALIVE, ALIVE),
    ],
)
def test_a_policy_that_opens_keeps_its_row_alive(
    policies: tuple[str, ...], egress: PathState, ingress: PathState, dns: PathState
) -> None:
    found = states(facts(isolation=isolated_by(*policies)))
    assert (found["network.egress"], found["network.ingress"], found["network.dns"]) == (egress, ingress, dns)


def test_the_policy_that_opens_is_named() -> None:
    assert "allow-dns" in row(facts(isolation=isolated_by("default-deny", "allow-dns")), "network.egress").why


def test_a_pod_on_its_nodes_network_is_open_whatever_the_policies_say() -> None:
    pod = a_pod(hostNetwork=True)
    of = facts(pod=pod, isolation=evaluate(pod, []))
    for path in ("network.egress", "network.ingress", "network.dns", "node"):
        assert row(of, path).state is ALIVE
    assert verdict(rows(of)) is Verdict.NOT_CONTAINED


def test_the_token_is_dead_only_when_one_like_it_was_refused() -> None:
    assert row(facts(), "identity.kubernetes").state is ALIVE
    assert row(facts(token_refused=True), "identity.kubernetes").state is ALIVE, "the pod is still there"
    assert row(gone(), "identity.kubernetes").state is UNSEEN
    refused = row(gone(token_refused=True), "identity.kubernetes")
    assert (refused.state, refused.level) == (DEAD, Level.PROVEN)
    assert row(gone(token_refused=True), "identity.legacy").state is UNSEEN, "a canary says nothing of these"


def test_a_pod_without_a_mounted_token_is_unseen_and_not_dead() -> None:
    found = row(facts(pod=a_pod(volumes=[])), "identity.kubernetes")
    assert (found.state, found.level) == (UNSEEN, Level.COMPUTED)


def test_a_cloud_role_stays_alive_when_the_pod_is_gone() -> None:
    account = {"metadata": {"annotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/cards"}}}
    for of in (facts(account=account), gone(account=account)):
        found = row(of, "identity.cloud")
        assert found.state is ALIVE
        assert "role/cards" in found.why
    assert "identity.cloud" not in states(facts())


def test_an_account_that_could_not_be_read_is_unseen_and_not_left_out() -> None:
    found = row(facts(account=None, account_unread="403: denied"), "identity.cloud")
    assert (found.state, found.level) == (UNSEEN, Level.NONE)
    assert "403: denied" in found.why


def sibling(name: str) -> Json:
    return {"metadata": {"namespace": "bank", "name": name, "uid": name}}


@pytest.mark.parametrize(
    ("siblings", "unread", "by_image", "by_account"),
    [
        (NO_SIBLINGS, "", DEAD, DEAD),
        (Siblings((sibling("a"),), (), "all namespaces"), "", UNSEEN, DEAD),
        (Siblings((), (sibling("a"),), "all namespaces"), "", DEAD, UNSEEN),
        (Siblings((), (), "namespace bank only", "403"), "", UNSEEN, DEAD),  # an account has no pods elsewhere
        (Siblings((sibling("a"),), (sibling("a"),), "namespace bank only", "403"), "", UNSEEN, UNSEEN),
        (None, "403", UNSEEN, UNSEEN),
    ],
)
def test_siblings_are_dead_only_where_all_of_them_could_be_listed(
    siblings: Siblings | None, unread: str, by_image: PathState, by_account: PathState
) -> None:
    found = states(facts(siblings=siblings, siblings_unread=unread))
    assert (found["siblings.image"], found["siblings.account"]) == (by_image, by_account)


def test_many_siblings_are_counted_and_hostile_names_escaped() -> None:
    many = tuple(sibling(f"s{number}\x1b[31m") for number in range(9))
    why = row(facts(siblings=Siblings(many, (), "all namespaces")), "siblings.image").why
    assert why.startswith("9 ")
    assert "and 4 more" in why
    assert "\x1b" not in why


def test_without_a_controller_nobody_starts_another() -> None:
    assert row(facts(controller=""), "workload.replacement").state is DEAD
    assert row(facts(), "workload.replacement").state is ALIVE
    assert row(gone(), "workload.replacement").state is ALIVE, "the template still has the hole"


@pytest.mark.parametrize(
    ("pod", "words"),
    [
        (a_pod(containers=[{"name": "c", "securityContext": {"privileged": True}}]), "privileged"),
        (a_pod(volumes=[{"name": "v", "hostPath": {"path": "/"}}]), "node's folder"),
        (a_pod(hostPID=True), "hostPID"),
    ],
)
def test_a_pod_that_reaches_into_its_node_leaves_the_node_alive_also_when_it_is_gone(pod: Json, words: str) -> None:
    for of in (facts(pod=pod), gone(pod=pod)):
        assert row(of, "node").state is ALIVE
        assert words in row(of, "node").why


def test_every_open_row_says_what_would_show_or_end_it() -> None:
    for of in (facts(), gone(), facts(siblings=None, siblings_unread="x"), facts(account=None, account_unread="x")):
        for found in rows(of):
            assert found.why
            if found.is_open:
                assert found.retest or found.until, found.path
            assert found.as_of == NOW


def test_rows_have_distinct_and_stable_paths() -> None:
    paths = [found.path for found in rows(facts(account=None, account_unread="x"))]
    assert len(paths) == len(set(paths))


# --- gathering ------------------------------------------------------------------------------------------------------

Gather = Callable[[], Facts]


@pytest.fixture
def gather(cluster: Cluster, api: Simulator, pool: ThreadPoolExecutor) -> Gather:
    """Facts about cards-1 as it was at first."""
    pod = api.get(POD, "bank", "cards-1")
    assert pod is not None
    target = ObjectRef.of("cluster-1", pod)
    since = datetime.now(UTC) + timedelta(hours=1)

    def now() -> Facts:
        return gathering.gather(cluster, pod, target, since=since, token_refused=False, pool=pool)

    return now


def test_live_state_is_read(gather: Gather) -> None:
    found = gather()
    assert found.live is not None
    assert found.isolation is not None
    assert not found.isolation.cut
    assert found.siblings is not None
    assert [pod["metadata"]["name"] for pod in found.siblings.by_image] == ["cards-2"]
    assert (found.controller, found.account_unread) == ("ReplicaSet cards-6b7f", "")
    (cards,) = found.serving
    assert (cards.service, cards.ready, cards.desired, cards.replacements) == ("cards", 2, 2, 0)


def test_a_pod_of_the_same_name_and_another_uid_is_not_the_suspect(gather: Gather, api: Simulator) -> None:
    api.add(POD, "bank", "cards-1", pod_body())
    assert gather().live is None


def test_a_policy_that_appears_later_opens_the_row_again(gather: Gather, api: Simulator) -> None:
    deny = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    for name in ("allow-dns", "allow-cards"):
        api.add(NETWORK_POLICY, "bank", name, {"spec": deny})
    assert row(gather(), "network.egress").state is UNSEEN
    api.add(NETWORK_POLICY, "bank", "oops", {"spec": {**deny, "egress": [{}]}})
    assert row(gather(), "network.egress").state is ALIVE


def test_what_is_only_a_part_may_be_refused_and_is_said(gather: Gather, api: Simulator) -> None:
    denied = 'x is forbidden: User "alice" cannot list resource "x" in API group ""'
    api.faults += [Fault("GET", "/serviceaccounts/cards", 403, denied), Fault("GET", "/api/v1/pods", 403, denied)]
    found = gather()
    assert "cannot" in found.account_unread
    assert found.siblings is not None
    assert found.siblings.why_narrow
    assert row(found, "identity.cloud").state is UNSEEN


def test_an_account_that_does_not_exist_is_not_an_unread_one(gather: Gather, api: Simulator) -> None:
    del api.objects["/api/v1", SERVICE_ACCOUNT.plural, "bank", "cards"]
    found = gather()
    assert (found.account, found.account_unread) == (None, "")


@pytest.mark.parametrize("path", ["/pods/cards-1", "/networkpolicies", "/services"])
def test_without_the_pod_the_policies_or_the_services_nothing_is_said(
    gather: Gather, api: Simulator, path: str
) -> None:
    api.faults.append(Fault("GET", path, 503))
    with pytest.raises(PlatformError):
        gather()


# --- the network canary ---------------------------------------------------------------------------------------------

OPEN, SHUT, NOT_SEEN = Seen.OPEN, Seen.SHUT, Seen.NOT_SEEN
HELD, LEAKED, UNTRIED = (OPEN, SHUT, OPEN), (OPEN, OPEN, NOT_SEEN), (SHUT, SHUT, NOT_SEEN)
Seens = tuple[Seen, Seen, Seen]


def tried(*paths: tuple[Row, str, Seens], **changes: Any) -> Facts:
    """A pod that is cut as computed, and a canary's report about the same fence."""
    found = tuple(
        CanaryPath(row=row, way=way, control=seen[0], fenced=seen[1], again=seen[2], at=NOW) for row, way, seen in paths
    )
    report = CanaryReport(
        target=ObjectRef(cluster="c", api_version="v1", kind="Pod", namespace="bank", name="cards-1", uid="u1"),
        canary="c1",
        image="tools.test/python",
        node="node-1",
        basis="b1",
        started_at=NOW,
        ended_at=NOW,
        paths=found,
        why=changes.pop("why", "" if found else "nothing"),
    )
    return facts(**{"network_canary": report, "network_basis": "b1", **changes})


def test_a_row_is_proven_when_each_path_was_shut_by_the_fence() -> None:
    of = tried(
        ("network.egress", "the API server", HELD),
        ("network.ingress", "port 8080", HELD),
        ("network.dns", "DNS at 10.96.0.10", HELD),
    )
    for path in ("network.egress", "network.ingress", "network.dns"):
        assert (row(of, path).state, row(of, path).level) == (DEAD, Level.PROVEN)
    why = row(of, "network.egress").why
    assert "the API server" in why
    assert "node-1, 2026-11-23T03:00:00Z" in why


def test_a_row_of_which_nothing_was_shown_stays_unseen() -> None:
    of = tried(("network.egress", "x", HELD), ("network.ingress", "port 8080", UNTRIED))
    assert (row(of, "network.ingress").state, row(of, "network.ingress").level) == (UNSEEN, Level.COMPUTED)
    assert "port 8080 (not open without the fence either)" in row(of, "network.ingress").why
    assert row(of, "network.dns").state is UNSEEN, "no path of it was tried"


def test_what_could_not_be_tried_is_said_beside_what_was() -> None:
    of = tried(("network.egress", "the API server", HELD), ("network.egress", "Service loans", UNTRIED))
    assert row(of, "network.egress").state is DEAD
    assert "could not be tried: Service loans" in row(of, "network.egress").why


def test_one_path_that_got_through_keeps_its_row_alive_and_is_named() -> None:
    of = tried(("network.egress", "the API server", HELD), ("network.egress", "10.0.0.9:443", LEAKED))
    found = row(of, "network.egress")
    assert (found.state, found.level) == (ALIVE, Level.OBSERVED)
    assert "10.0.0.9:443" in found.why
    assert "the API server" not in found.why
    assert verdict(rows(of)) is Verdict.NOT_CONTAINED


def test_names_that_get_out_are_a_way_out_too() -> None:
    of = tried(("network.egress", "the API server", HELD), ("network.dns", "DNS at 169.254.20.10", LEAKED))
    assert (row(of, "network.egress").state, row(of, "network.dns").state) == (ALIVE, ALIVE)
    assert row(of, "network.ingress").state is UNSEEN


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"network_basis": "b2"}, "changed since"),
        ({"why": "the canary could not be started"}, "could not be started"),
    ],
)
def test_a_report_of_another_fence_or_one_that_failed_shows_nothing(changes: Json, words: str) -> None:
    for seen in (HELD, LEAKED):
        found = row(tried(("network.egress", "x", seen), **changes), "network.egress")
        assert (found.state, found.level) == (UNSEEN, Level.COMPUTED)
        assert words in found.why


def test_no_canary_outvotes_a_policy_that_opens() -> None:
    of = tried(
        ("network.egress", "x", HELD),
        ("network.dns", "y", HELD),
        isolation=isolated_by("default-deny", "allow-dns"),
    )
    assert row(of, "network.egress").state is ALIVE
    assert row(of, "network.dns").state is ALIVE


def test_many_paths_are_counted() -> None:
    of = tried(*(("network.egress", f"way {number}", HELD) for number in range(9)))
    assert "each of 9 paths" in row(of, "network.egress").why
    assert "and 4 more" in row(of, "network.egress").why


@pytest.mark.parametrize(
    ("change", "same"),
    [
        (
            lambda api: api.add(
                NETWORK_POLICY, "bank", "elsewhere", {"spec": {"podSelector": {"matchLabels": {"a": "b"}}}}
            ),
            True,
        ),
        (lambda api: api.add(NETWORK_POLICY, "bank", "here", {"spec": {"podSelector": {}}}), False),
        (lambda api: api.objects.pop(("/apis/networking.k8s.io/v1", "networkpolicies", "bank", "default-deny")), False),
        (lambda api: api.objects["/api/v1", "pods", "bank", "cards-1"]["metadata"]["labels"].update(x="y"), False),
        (lambda api: api.objects["/api/v1", "pods", "bank", "cards-1"]["spec"].update(nodeName="node-2"), False),
    ],
)
def test_the_basis_is_what_the_fence_stands_on(
    gather: Gather, api: Simulator, change: Callable[[Simulator], object], same: bool
) -> None:
    before = gather().network_basis
    assert before
    change(api)
    assert (gather().network_basis == before) is same


def test_a_pod_that_is_gone_has_no_basis(gather: Gather, api: Simulator) -> None:
    del api.objects["/api/v1", "pods", "bank", "cards-1"]
    assert gather().network_basis == ""


# --- what Argo CD would put back -----------------------------------------------------
def delivered(kept: Kept, *, changed: bool = True) -> Deliveries:
    return Deliveries((DeliveredObject("NetworkPolicy allow-dns", "bank", changed, kept, "for a reason"),))


@pytest.mark.parametrize(
    ("kept", "state", "words"),
    [
        (Kept.REVERTED, ALIVE, "NetworkPolicy allow-dns will be reverted by Application bank"),
        (Kept.FROZEN, UNSEEN, "may be reverted by Application bank"),
        (Kept.ELSEWHERE, UNSEEN, "may be reverted by Application bank"),
        (Kept.LEFT, DEAD, "is left as it is by Application bank"),
    ],
)
def test_what_argo_cd_delivers_and_a_response_changed_has_a_row(kept: Kept, state: PathState, words: str) -> None:
    found = row(facts(deliveries=delivered(kept)), "gitops.reversal")
    assert found.state is state
    assert words in found.why


def test_one_object_that_is_reverted_keeps_the_row_alive() -> None:
    both = Deliveries((*delivered(Kept.LEFT).objects, *delivered(Kept.REVERTED).objects))
    assert row(facts(deliveries=both), "gitops.reversal").state is ALIVE


def test_what_no_response_changed_is_no_way_back_in() -> None:
    assert row(facts(deliveries=delivered(Kept.REVERTED, changed=False)), "gitops.reversal").state is DEAD


def test_without_argo_cd_there_is_no_row_and_applications_that_are_not_shown_are_unseen() -> None:
    assert "gitops.reversal" not in states(facts())
    found = row(facts(deliveries=Deliveries(unread="forbidden")), "gitops.reversal")
    assert (found.state, "forbidden" in found.why) == (UNSEEN, True)


@pytest.mark.parametrize(
    ("still", "reported", "state", "words"),
    [
        (False, True, ALIVE, "Deployment cards will be scaled up again by KEDA's ScaledObject cards"),
        (True, False, UNSEEN, "KEDA has not reported that it did"),
        (True, True, DEAD, "KEDA reports ScaledObject cards"),
    ],
)
def test_what_was_stopped_and_keda_scales_has_a_row(still: bool, reported: bool, state: PathState, words: str) -> None:
    found = row(facts(scaling=Scaling("Deployment cards", (Scaler("ScaledObject cards", still, reported),))), SCALING)
    assert (found.state, words in found.why) == (state, True)


def test_one_scaler_that_is_not_paused_keeps_the_row_alive_and_none_makes_no_row() -> None:
    both = (Scaler("ScaledObject a", True, True), Scaler("ScaledObject b", False, False))
    assert row(facts(scaling=Scaling("Deployment cards", both)), SCALING).state is ALIVE
    assert SCALING not in states(facts()) | states(facts(scaling=Scaling("Deployment cards")))
    found = row(facts(scaling=Scaling("Deployment cards", unread="forbidden")), SCALING)
    assert (found.state, "forbidden" in found.why) == (UNSEEN, True)


def test_a_replacement_says_who_recreates_the_pod_and_where_its_template_lies() -> None:
    assert "will be recreated by ReplicaSet cards-6b7f" in row(facts(), "workload.replacement").why
    found = row(facts(deliveries=Deliveries(template="bank")), "workload.replacement")
    assert "Application bank" in found.why
    assert "in Git" in found.until
