"""``contain`` on a simulated API: the cut comes first, whatever fails beside it, and the journal knows before the
cluster does."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ringfence.actions.base import Settings
from ringfence.actions.network import Quarantine
from ringfence.errors import ConfigError, Guarded, StoreError, TargetError, VaultError
from ringfence.evidence.sealing import Sealer
from ringfence.evidence.vault import Vault
from ringfence.model.access import PathState, Verdict, verdict
from ringfence.model.incident import Severity, State
from ringfence.model.outcome import Already, Applied, Failed, Refused, Unknown, is_done
from ringfence.model.plan import Plan, Verb
from ringfence.model.timeline import ChangeIntended, GlassBroken, PlanMade
from ringfence.platform.kubernetes.resources import NETWORK_POLICY, POD, REPLICA_SET
from ringfence.platform.kubernetes.surroundings import read_pod, read_surroundings, reference
from ringfence.response import steps
from ringfence.response.context import Context
from ringfence.response.preview import preview
from ringfence.response.results import Result
from ringfence.seal.signing import load_or_create
from ringfence.seal.verify import verify_bundle
from ringfence.store import incidents, journal, runs
from tests.response.steps_of import (
    FENCE_KEY,
    changes,
    contained,
    deny_policies,
    events,
    found,
    is_fenced,
    labels,
    policy,
    types,
)
from tests.simulator import Fault, Simulator
from tests.small_bank import POLICIES, add_pod, pod_body
from tests.wire import Answer, Wire
from tests.wire import Request as HttpRequest

pytestmark = pytest.mark.slow

WithPolicy = Callable[..., Context]


def state_of(result: Result, path: str) -> PathState:
    return next(row.state for row in result.statement.rows if row.path == path)


def broken_vault(context: Context, tmp_path: Path) -> Context:
    (tmp_path / "no-folder").write_text("")
    return replace(context, vault=Vault(tmp_path / "no-folder"))


# --- the cut --------------------------------------------------------------------------------------------------------


def test_the_pod_is_cut_sealed_and_not_called_contained(context: Context, api: Simulator, signing_key: Any) -> None:
    cuts: list[str] = []
    result = contained(context, on_cut=lambda incident: cuts.append(incident.id))
    assert result.outcome == Applied()
    assert is_fenced(api)
    assert cuts == ["INC-1"]
    assert verdict(result.statement.rows) is Verdict.NOT_FULLY_CONTAINED
    (seal,) = result.seals
    assert seal.complete
    verify_bundle(Path(seal.path), signing_key.public_key)


def test_the_cut_comes_before_the_evidence(context: Context) -> None:
    contained(context)
    order = types(context)
    assert order.index("step.finished") < order.index("evidence.acquired") < order.index("evidence.sealed")
    assert [name for name in order if not name.startswith(("run.", "lease."))][:4] == [
        "incident.declared",
        "step.finished",  # nothing is delivered by Argo CD here
        "plan.made",
        "capture.opened",
    ]


def test_intent_and_prior_state_are_on_disk_before_the_request_leaves(
    context: Context, api: Simulator, wire: Wire
) -> None:
    seen: dict[str, tuple[Any, Any]] = {}

    def respond(request: HttpRequest) -> Answer:
        if audit_id := request.headers.get("audit-id"):
            record = next(r for r in changes(context).values() if r.audit_id == audit_id)
            seen[record.change.id] = (record.outcome, record.change.prior)
        return api(request)

    before = api.get(POD, "bank", "cards-1")
    wire.responder = respond
    contained(context)
    assert {name: outcome for name, (outcome, _) in seen.items()} == dict.fromkeys(
        ("deny-all", "exclude-allow-dns", "detach")
    )
    assert seen["detach"][1] == before


def test_the_timeline_has_each_intent_before_its_result_under_the_audit_id_that_was_sent(
    context: Context, api: Simulator
) -> None:
    contained(context)
    sent = [request.headers["audit-id"] for request in api.writes]
    pairs = [event for event in events(context) if event.type in ("change.intended", "change.result")]
    assert [event.type for event in pairs] == ["change.intended", "change.result"] * 3
    assert [event.audit_id for event in pairs if isinstance(event, ChangeIntended)] == sent
    assert [record.audit_id for record in changes(context).values()] == sent


def test_what_the_victim_can_read_names_neither_incident_nor_us(context: Context, api: Simulator) -> None:
    result = contained(context)
    pod = api.get(POD, "bank", "cards-1")
    visible = json.dumps([pod and pod["metadata"]["labels"], pod and pod["metadata"]["annotations"]])
    assert result.incident.id not in visible
    assert result.incident.fence in visible, "the label's value is the opaque one of the incident"
    assert "suspicious" not in visible


def test_a_pod_with_numbers_that_json_cannot_hash_is_cut_all_the_same(context: Context, api: Simulator) -> None:
    body = pod_body()
    body["spec"]["terminationGracePeriodSeconds"] = 2**63 - 1
    body["spec"]["tolerations"] = [{"operator": "Exists", "tolerationSeconds": 2**63 - 1}]
    add_pod(api, "stubborn", body)
    assert contained(context, "stubborn", accept_outage=True).outcome == Applied()


def test_planning_alone_leaves_nothing_anywhere(context: Context, api: Simulator) -> None:
    (shown,) = preview(context, found(context, "cards-1"), shape="auto")
    assert isinstance(shown.plan, Plan)
    assert api.writes == []
    with context.store.read() as session:
        assert incidents.newest_first(session) == ()
    assert not context.vault.root.exists()


# --- what must not stop it ------------------------------------------------------------------------------------------


def test_a_vault_that_cannot_be_written_does_not_stop_the_cut(context: Context, api: Simulator, tmp_path: Path) -> None:
    cuts: list[str] = []
    broken = broken_vault(context, tmp_path)
    result = contained(broken, on_cut=lambda incident: cuts.append(incident.id))
    assert (result.outcome, len(cuts), is_fenced(api)) == (Applied(), 1, True)
    assert result.seals == ()
    assert "no-folder" in result.evidence_problem
    assert result.statement.rows, "and what is still open is said"


@pytest.mark.parametrize("error", [ConfigError("others can read the key", location="key"), VaultError("full")])
def test_a_seal_that_fails_does_not_hide_the_cut(context: Context, api: Simulator, error: Exception) -> None:
    def sealer() -> Sealer:
        raise error

    result = contained(replace(context, sealer=sealer))
    assert (result.outcome, result.seals) == (Applied(), ())
    assert str(error) in result.evidence_problem


def test_a_store_that_fails_while_sealing_stops_the_run_which_can_be_resumed(context: Context, api: Simulator) -> None:
    """Written down as a failed step, the seal would never be made when there is room again."""

    def sealer() -> Sealer:
        raise StoreError("the disk is full")

    with pytest.raises(StoreError, match="the disk is full"):
        contained(replace(context, sealer=sealer))
    assert is_fenced(api)
    with context.store.read() as session:
        left = runs.unfinished(session)
        assert [(run.id, [step.step for step in runs.steps(session, run.id)]) for run in left] == [
            ("INC-1/run/1", ["freeze", "cut", "cut-on-node"])
        ]


def test_a_key_that_others_can_read_does_not_hide_the_cut(context: Context, tmp_path: Path) -> None:
    path = tmp_path / "open.pem"
    load_or_create(path)
    path.chmod(0o644)
    result = contained(replace(context, sealer=lambda: Sealer(context.store, context.vault, load_or_create(path))))
    assert result.outcome == Applied()
    assert "0644" in result.evidence_problem


def test_logs_that_do_not_come_delay_the_cut_by_no_more_than_the_configured_wait(
    with_policy: WithPolicy, api: Simulator, wire: Wire
) -> None:
    wire.responder = lambda request: replace(api(request), delay=5) if request.path.endswith("/log") else api(request)
    result = contained(with_policy(pre_cut_wait_ms=50))
    assert result.outcome == Applied()
    (opened,) = [event for event in events(with_policy()) if event.type == "capture.opened"]
    assert (opened.streams, opened.opened) == (1, 0)
    assert opened.waited_ms < 4000, "the cut did not wait for the log"
    assert result.seals[0].complete, "the log is waited for after the cut"


def test_a_policy_that_cannot_be_excluded_leaves_the_pod_cut_from_the_rest_and_the_step_not_done(
    context: Context, api: Simulator
) -> None:
    api.faults.append(
        Fault("PATCH", "/networkpolicies/allow-dns", 403, 'admission webhook "gitops" denied the request')
    )
    cuts: list[str] = []
    result = contained(context, on_cut=lambda incident: cuts.append(incident.id))
    assert is_fenced(api), "the rest of the cut does not wait"
    assert isinstance(result.outcome, Failed)
    assert result.outcome.problem.code == "partly"
    assert "gitops" in result.outcome.problem.why
    assert cuts == []
    assert state_of(result, "network.dns") is PathState.ALIVE
    assert verdict(result.statement.rows) is Verdict.NOT_CONTAINED
    assert result.seals


# --- what does stop it ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [403, 422, 429, 500])
def test_without_the_deny_the_pod_is_not_relabelled(context: Context, api: Simulator, status: int) -> None:
    api.faults.append(Fault("POST", "/networkpolicies", status, "no"))
    result = contained(context)
    assert isinstance(result.outcome, Failed)
    assert not is_fenced(api)
    assert set(changes(context)) == {"cut/1:deny-all"}, "nothing after it was sent"
    assert result.seals, "the evidence is taken all the same"


def test_a_protected_pod_is_not_touched_and_no_incident_is_declared(with_policy: WithPolicy, api: Simulator) -> None:
    guarded = with_policy(protected_namespaces=("bank",))
    with pytest.raises(Guarded, match="not to be touched"):
        contained(guarded)
    assert api.writes == []
    with guarded.store.read() as session:
        assert incidents.newest_first(session) == ()


def test_a_pod_that_does_not_exist_is_an_error_that_names_those_like_it(context: Context) -> None:
    with pytest.raises(TargetError, match="cards-1, cards-2"):
        contained(context, "cards-9")
    with pytest.raises(TargetError, match="none with a name like it"):
        contained(context, "ledger-1")


def test_a_workloads_name_leads_to_its_pods(context: Context, api: Simulator) -> None:
    with pytest.raises(TargetError, match="cards-1"):
        contained(context, "cards-6b7f")


def test_a_pod_that_cannot_be_cut_is_sealed_without_a_cut(context: Context, api: Simulator) -> None:
    body = pod_body()
    body["spec"]["hostNetwork"] = True
    add_pod(api, "ledger-0", body, labels={"app": "ledger"})
    result = contained(context, "ledger-0")
    assert isinstance(result.outcome, Refused)
    assert result.seals
    assert "refusal" in types(context)
    assert api.writes == []
    assert verdict(result.statement.rows) is Verdict.NOT_CONTAINED


# --- the serving floor ----------------------------------------------------------------------------------------------


def alone(api: Simulator) -> None:
    """cards-1 is the only one that serves."""
    del api.objects["/api/v1", "pods", "bank", "cards-2"]
    api.objects["/apis/apps/v1", "deployments", "bank", "cards"]["spec"]["replicas"] = 1
    api.objects["/apis/apps/v1", "replicasets", "bank", "cards-6b7f"]["spec"]["replicas"] = 1
    api.add(REPLICA_SET, "bank", "idle", {"spec": {"replicas": 0, "selector": {"matchLabels": {"app": "idle"}}}})


def test_customers_who_would_fall_below_the_floor_are_asked_for_and_no_means_no(
    context: Context, api: Simulator
) -> None:
    alone(api)
    questions: list[str] = []

    def refuse(question: str) -> bool:
        questions.append(question)
        return False

    result = contained(context, ask=refuse)
    assert "cards would have 0 of 1 serving" in questions[0]
    assert isinstance(result.outcome, Refused)
    assert "--accept-outage" in result.outcome.next_step
    assert not is_fenced(api)
    assert result.seals
    assert "refusal" in types(context)


@pytest.mark.parametrize("how", ["asked", "told before"])
def test_an_outage_that_is_accepted_is_carried_out(context: Context, api: Simulator, how: str) -> None:
    alone(api)
    if how == "asked":
        result = contained(context, ask=lambda _question: True)
    else:
        result = contained(context, accept_outage=True)
    assert result.outcome == Applied()
    assert is_fenced(api)


def test_nobody_is_asked_while_customers_are_served(context: Context) -> None:
    def must_not(question: str) -> bool:
        raise AssertionError(question)

    assert contained(context, ask=must_not).outcome == Applied()


# --- again, and after a crash ---------------------------------------------------------------------------------------


def test_a_second_contain_joins_the_incident_and_changes_nothing(context: Context, api: Simulator) -> None:
    first = contained(context)
    state = {key: json.dumps(obj) for key, obj in api.objects.items()}
    second = contained(context)
    assert (second.incident.id, first.joined, second.joined) == (first.incident.id, False, True)
    assert is_done(second.outcome)
    assert {key: json.dumps(obj) for key, obj in api.objects.items()} == state
    assert (labels(api)[FENCE_KEY], len(deny_policies(api))) == (first.incident.fence, 1)
    assert second.seals[0].id.endswith("/seal/2")


def test_the_statement_remembers_the_pod_as_it_was_found(context: Context) -> None:
    contained(context)
    second = contained(context)
    assert state_of(second, "workload.replacement") is PathState.ALIVE, "it had a controller, before we took it out"


def test_a_pod_of_the_same_name_later_is_another_incident(context: Context, api: Simulator) -> None:
    first = contained(context)
    api.add(POD, "bank", "cards-1", pod_body(), labels={"app": "cards"})
    second = contained(context, accept_outage=True)
    assert (first.incident.id, second.incident.id, second.joined) == ("INC-1", "INC-2", False)


@pytest.mark.parametrize(("method", "path"), [("POST", "/networkpolicies"), ("PATCH", "/pods/cards-1")])
def test_a_lost_answer_is_looked_up_and_the_cut_goes_on(
    context: Context, api: Simulator, method: str, path: str
) -> None:
    api.faults.append(Fault(method, path, lost=True, times=1))
    result = contained(context)
    assert is_done(result.outcome)
    assert is_fenced(api)
    assert [request.method for request in api.writes].count(method) == (1 if method == "POST" else 2), "nothing twice"


def test_an_outcome_that_stays_unknown_is_not_called_done_and_is_settled_later(
    context: Context, api: Simulator, wire: Wire
) -> None:
    def no_reads_after_the_patch(request: HttpRequest) -> Answer:
        cut = any(write.path.endswith("/pods/cards-1") for write in api.writes)
        return Answer(503, b"") if cut and request.method == "GET" else api(request)

    wire.responder = no_reads_after_the_patch
    api.faults.append(Fault("PATCH", "/pods/cards-1", lost=True, times=1))
    first = contained(context)
    assert isinstance(first.outcome, Unknown)
    wire.responder = api
    with context.store.read() as session:
        incident = incidents.get(session, "INC-1")
    steps.reconcile(context, incident)
    assert isinstance(changes(context)["cut/1:detach"].outcome, Already)


def crash_after_intent(context: Context, api: Simulator, *, sent: bool) -> None:
    """The process dies after the deny's intent was committed; the request was sent, or it was not."""
    pod, reading = read_pod(context.cluster, "bank", "cards-1")
    with context.store.write() as session:
        incident = incidents.declare(
            session,
            target=reference("cluster-1", pod),
            incident_type="compromised-workload",
            severity=Severity.CRITICAL,
            title="t",
            principal=context.principal,
            fence="f00d",
            command="contain",
            now=reading.ended_at,
        )
    action = Quarantine(context.cluster, Settings("f00d", 1))
    around = read_surroundings(context.cluster, "cluster-1", pod, reading, context.pool)
    plan = action.plan(incident.target, around)
    assert isinstance(plan, Plan)
    for ordinal, change in enumerate(plan.changes):
        with context.store.write() as session:
            record = journal.intend(
                session,
                incident=incident.id,
                step="cut/1",
                action=action.name,
                ordinal=ordinal,
                change=change,
                actor="a",
                now=reading.ended_at,
            )
        if sent:
            action.apply(record.change, record.audit_id)


@pytest.mark.parametrize("sent", [True, False])
def test_a_crash_between_intent_and_result_is_settled_by_live_state(
    context: Context, api: Simulator, sent: bool
) -> None:
    crash_after_intent(context, api, sent=sent)
    result = contained(context)
    assert result.joined
    assert is_done(result.outcome)
    journalled = changes(context)
    for name in ("deny-all", "exclude-allow-dns", "detach"):
        outcome = journalled[f"cut/1:{name}"].outcome
        assert isinstance(outcome, Already if sent else Failed), name
    assert all(record.outcome is not None for record in journalled.values())
    assert is_fenced(api)
    assert len(deny_policies(api)) == 1
    prior = journalled["cut/1:exclude-allow-dns"].change.prior
    assert prior is not None
    assert prior["spec"] == POLICIES["allow-dns"], "the first prior state is the one that counts"


def test_a_change_of_a_former_attempt_is_looked_up_and_not_sent_again(context: Context, api: Simulator) -> None:
    crash_after_intent(context, api, sent=True)
    writes = len(api.writes)
    with context.store.read() as session:
        incident = incidents.get(session, "INC-1")
    record = changes(context)["cut/1:deny-all"]
    action = Quarantine(context.cluster, Settings("f00d", 1))
    again = steps.apply_change(context, incident, "cut/1", action, 0, record.change)
    assert isinstance(again.outcome, Already)
    assert len(api.writes) == writes


def test_the_incident_is_containing_whatever_became_of_the_step(context: Context, api: Simulator) -> None:
    api.faults.append(Fault("POST", "/networkpolicies", 422))
    contained(context)
    with context.store.read() as session:
        assert incidents.get(session, "INC-1").state is State.CONTAINING


def test_a_right_that_is_missing_is_said_before_anything_is_changed(context: Context, api: Simulator) -> None:
    message = 'networkpolicies is forbidden: User "alice" cannot create resource "networkpolicies" in API group'
    api.faults.append(Fault("POST", "/networkpolicies", 403, message, dry=None))
    refused = contained(context).outcome
    assert isinstance(refused, Failed)
    assert (refused.problem.code, "cannot create" in str(refused.problem)) == ("denied", True)
    assert (api.writes, is_fenced(api), changes(context)) == ([], False, {})


def test_the_plan_that_is_recorded_is_the_one_that_is_carried_out(context: Context) -> None:
    result = contained(context)
    (made,) = [event for event in events(context) if isinstance(event, PlanMade)]
    (step,) = [step for step in result.steps if step.action == made.action]
    assert (made.step, step.outcome) == ("cut/1", result.outcome)
    assert list(made.changes) == [record.change.effect for record in changes(context).values()]
    assert not any(isinstance(event, GlassBroken) for event in events(context))


def test_verbs_are_sent_in_the_order_of_the_plan(context: Context, api: Simulator) -> None:
    contained(context)
    assert [record.change.verb for record in changes(context).values()] == [Verb.CREATE, Verb.PATCH, Verb.PATCH]
    assert [request.path.rpartition("/")[2] for request in api.writes] == [
        NETWORK_POLICY.plural,
        "allow-dns",
        "cards-1",
    ]
    assert policy(api, "default-deny") == POLICIES["default-deny"]
