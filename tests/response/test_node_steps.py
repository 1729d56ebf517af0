"""Orders of the node helper as steps of a playbook: the same gates as other cuts, done once, nothing left behind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ringfence.actions import node_helper as actions
from ringfence.actions.node_helper import Options
from ringfence.errors import StoreError
from ringfence.model.access import PathState, Verdict, verdict
from ringfence.model.incident import Incident, Severity, State
from ringfence.model.node_helper import NodeOrder
from ringfence.model.outcome import Already, Applied, Refused, Skipped, is_done
from ringfence.model.proof import Level
from ringfence.model.run import Decision, RunState
from ringfence.model.timeline import NodeHelperReported, NodeHelperSwitched
from ringfence.platform.kubernetes.resources import NAMESPACE, POD
from ringfence.response import consent, node_helper, orders, verbs
from ringfence.response.context import Context, now
from ringfence.response.node_order import Wish as NodeWish
from ringfence.response.results import Result
from ringfence.response.verbs import Wish
from ringfence.store import incidents, journal, runs, targets, timeline
from tests.node_world import HELPERS, NodeWorld
from tests.response.steps_of import changes, conductor, contained, events, found
from tests.simulator import Fault
from tests.small_bank import furnish

pytestmark = pytest.mark.slow

HEAD = """
apiVersion: ringfence.dev/v1
kind: Playbook
metadata: {name: mine, title: Mine, description: A test of ours.}
spec:
  incident: {type: compromised-workload, severity: high}
  targets: [Pod]
  steps:
"""
CUT = "    - {id: cut-there, title: Cut on the node, action: node.cut, phase: containing}\n"
ALL = "".join(
    f"    - {{id: {verb}-there, title: The order, action: node.{verb}, phase: containing}}\n"
    for verb in ("cut", "freeze", "thaw", "uncut")
)


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> NodeWorld:
    for name in ("_POLL_SECONDS", "_GONE_SECONDS", "_START_SECONDS"):
        monkeypatch.setattr(actions, name, 0.01 if name.startswith("_P") else 1.0)
    world = NodeWorld()
    furnish(world)
    world.add(NAMESPACE, "", HELPERS)
    for pod in world.all(POD):
        pod["status"]["podIPs"] = [{"ip": "10.1.0.7"}]
    return world


@pytest.fixture
def here(with_policy: Callable[..., Context]) -> Context:
    """Where the helper is configured."""
    return with_policy(node_helper=Options(image="python", namespace=HELPERS, seconds=5))


def switch(context: Context, *, on: bool = True) -> None:
    event = NodeHelperSwitched(occurred_at=now(), actor=context.actor, on=on, reason="why")
    with context.store.write() as session:
        timeline.append(session, "INC-1", event, now())


def declared(context: Context) -> Incident:
    """INC-1 about cards-1, for which the helper is on."""
    (one,) = found(context, "cards-1")
    with context.store.write() as session:
        made = incidents.declare(
            session,
            target=one.ref,
            incident_type="compromised-workload",
            severity=Severity.HIGH,
            title="x",
            principal=context.principal,
            fence="f" * 16,
            command="declare",
            now=now(),
            found=one.obj,
        )
    switch(context)
    return made


def play(context: Context, tmp_path: Path, steps_: str, *pods: str, **wish: Any) -> Result:
    path = tmp_path / "mine.yaml"
    path.write_text(HEAD + steps_)
    wanted = Wish(command="respond", **wish)
    return verbs.respond(context, conductor(context), str(path), found(context, *(pods or ("cards-1",))), wanted)


def outcomes(result: Result) -> dict[str, str]:
    return {step.step: step.outcome.kind for step in result.steps}


# --- the order ----------------------------------------------------------------------------
def test_a_playbook_cuts_and_freezes_on_the_node_and_takes_both_back(
    here: Context, api: NodeWorld, tmp_path: Path
) -> None:
    made = declared(here)
    result = play(here, tmp_path, ALL)
    assert set(outcomes(result).values()) == {"applied"}, result.steps
    assert [order for order, _ in api.runs] == ["cut", "freeze", "thaw", "uncut"]
    assert (api.cut, api.frozen, api.helpers()) == (set(), set(), [])
    proof = next(step.proof for step in result.steps if step.step == "cut-there")
    assert proof is not None
    assert proof.level is Level.PROVEN
    records = changes(here)
    assert all(record.outcome is not None for record in records.values())
    assert [key.partition(":")[0] for key in records] == [
        f"{verb}-there/1" for verb in ("cut", "freeze", "thaw", "uncut") for _ in ("create", "delete")
    ]
    with here.store.read() as session:
        assert incidents.get(session, made.id).state is State.CONTAINING


def test_off_it_is_refused_with_the_command_that_switches_it_on(here: Context, api: NodeWorld, tmp_path: Path) -> None:
    declared(here)
    switch(here, on=False)
    (step,) = play(here, tmp_path, CUT).steps
    assert isinstance(step.outcome, Refused)
    assert step.outcome.next_step == "ringfence node INC-1 on --reason WHY"
    assert api.runs == []


def test_off_nobody_is_told_to_switch_it_on_for_a_pod_that_it_cannot_cut(
    here: Context, api: NodeWorld, tmp_path: Path
) -> None:
    declared(here)
    switch(here, on=False)
    api.objects["/api/v1", "pods", "bank", "cards-1"]["spec"]["hostNetwork"] = True
    (step,) = play(here, tmp_path, CUT).steps
    assert isinstance(step.outcome, Refused)
    assert "network" in step.outcome.reason
    assert "ringfence node" not in step.outcome.next_step


def test_not_configured_it_is_refused_with_the_key_to_set(context: Context, api: NodeWorld, tmp_path: Path) -> None:
    declared(context)
    (step,) = play(context, tmp_path, CUT).steps
    assert isinstance(step.outcome, Refused)
    assert "node_helper.enabled" in step.outcome.next_step


def test_a_pod_that_is_gone_is_skipped(here: Context, api: NodeWorld, tmp_path: Path) -> None:
    declared(here)
    pods = found(here, "cards-1")
    del api.objects["/api/v1", "pods", "bank", "cards-1"]
    path = tmp_path / "mine.yaml"
    path.write_text(HEAD + CUT)
    (step,) = verbs.respond(here, conductor(here), str(path), pods, Wish(command="respond")).steps
    assert isinstance(step.outcome, Skipped)


# --- customers ----------------------------------------------------------------------------
def test_the_floor_holds_the_second_of_two_serving_pods(here: Context, api: NodeWorld, tmp_path: Path) -> None:
    declared(here)
    result = play(here, tmp_path, CUT, "cards-1", "cards-2")
    assert sorted(step.outcome.kind for step in result.steps) == ["applied", "refused"]
    assert len(api.cut) == 1
    taken = play(here, tmp_path, CUT, "cards-1", "cards-2", accept_outage=True)
    assert sorted(step.outcome.kind for step in taken.steps) == ["already", "applied"]
    assert len(api.cut) == 2


def test_a_command_on_two_serving_pods_holds_the_second_as_well(here: Context, api: NodeWorld) -> None:
    """Endpoints take a while to follow: each pod by itself would be found to leave the other one serving."""
    incident = declared(here)
    (other,) = found(here, "cards-2")
    with here.store.write() as session:
        targets.join(session, incident.id, other.ref, found=other.obj, how="named", actor=here.actor, now=now())
    done = node_helper.order_all(here, incident, NodeOrder.CUT, NodeWish(), say=lambda _: None)
    assert sorted(one.outcome.kind for one in done) == ["applied", "refused"]


def test_pods_that_are_cut_on_the_node_count_for_the_breaker(here: Context, api: NodeWorld) -> None:
    incident = declared(here)
    node_helper.order_all(here, incident, NodeOrder.CUT, NodeWish(), say=lambda _: None)
    with here.store.read() as session:
        assert journal.pods_taken(session, since_seconds=3600, now=now()) == 1
    node_helper.order_all(here, incident, NodeOrder.STATUS, NodeWish(), say=lambda _: None)
    node_helper.order_all(here, incident, NodeOrder.CUT, NodeWish(), say=lambda _: None)
    with here.store.read() as session:
        assert journal.pods_taken(session, since_seconds=3600, now=now()) == 1, "each pod once"


def test_above_the_blast_radius_a_step_waits_for_a_second_person_and_a_command_is_refused(
    here: Context, api: NodeWorld, tmp_path: Path
) -> None:
    incident = declared(here)
    small = replace(here, policy=replace(here.policy, blast_radius_pods=0, serving_floor=2))
    result = play(small, tmp_path, CUT, accept_outage=True)
    assert result.run.state is RunState.WAITING
    assert api.runs == []
    wish = NodeWish(accept_outage=True)
    (done,) = node_helper.order_all(small, incident, NodeOrder.CUT, wish, say=lambda _: None)
    assert isinstance(done.outcome, Refused)
    assert "second person" in done.outcome.reason
    assert api.runs == []


def test_a_protected_pod_is_not_touched(here: Context, api: NodeWorld) -> None:
    incident = declared(here)
    api.objects["/api/v1", "pods", "bank", "cards-1"]["metadata"]["labels"]["ringfence.dev/protected"] = "yes"
    (done,) = node_helper.order_all(here, incident, NodeOrder.CUT, NodeWish(), say=lambda _: None)
    assert isinstance(done.outcome, Refused)
    assert api.runs == []


# --- after a crash ------------------------------------------------------------------------
def test_a_step_that_died_with_its_helper_takes_it_away_and_finds_the_cut(
    here: Context, api: NodeWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = declared(here)
    with monkeypatch.context() as patch:
        patch.setattr(actions.NodeAction, "_hear", _die)
        patch.setattr(actions.NodeAction, "_remove", _die)
        with pytest.raises(Exception, match="the process is gone"):
            play(here, tmp_path, CUT)
    assert len(api.helpers()) == 1
    with here.store.read() as session:
        incident = incidents.get(session, "INC-1")
    (resumed,) = verbs.resume(here, conductor(here), incident)
    assert isinstance(resumed.steps[0].outcome, Already)
    assert api.helpers() == []
    assert api.cut == {made.target.uid}


def test_a_report_that_is_on_the_timeline_is_the_steps_answer(
    here: Context, api: NodeWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    declared(here)
    with monkeypatch.context() as patch:
        patch.setattr(runs, "finish_step", _die)
        with pytest.raises(Exception, match="the process is gone"):
            play(here, tmp_path, CUT)
    with here.store.read() as session:
        incident = incidents.get(session, "INC-1")
    (resumed,) = verbs.resume(here, conductor(here), incident)
    assert resumed.steps[0].outcome == Applied()
    assert [order for order, _ in api.runs] == ["cut"]
    assert sum(isinstance(event, NodeHelperReported) for event in events(here)) == 1


def test_a_cut_that_was_taken_back_meanwhile_is_made_again(
    here: Context, api: NodeWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    incident = declared(here)
    with monkeypatch.context() as patch:
        patch.setattr(runs, "finish_step", _die)
        with pytest.raises(Exception, match="the process is gone"):
            play(here, tmp_path, CUT)
    node_helper.order_all(here, incident, NodeOrder.UNCUT, NodeWish(), say=lambda _: None)
    verbs.resume(here, conductor(here), incident)
    assert len(api.cut) == 1


@pytest.mark.parametrize("ends", ["off", "gone", "cancelled"])
def test_nothing_of_a_dead_run_stays_whatever_becomes_of_the_step(
    ends: str, here: Context, api: NodeWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    declared(here)
    with monkeypatch.context() as patch:
        patch.setattr(actions.NodeAction, "_hear", _die)
        patch.setattr(actions.NodeAction, "_remove", _die)
        with pytest.raises(Exception, match="the process is gone"):
            play(here, tmp_path, CUT)
    with here.store.read() as session:
        incident = incidents.get(session, "INC-1")
    (run,) = orders.resumable(here, incident)
    if ends == "off":
        switch(here, on=False)
    elif ends == "gone":
        del api.objects["/api/v1", "pods", "bank", "cards-1"]
    else:
        orders.cancel(here, run, reason="enough")
    (resumed,) = verbs.resume(here, conductor(here), incident)
    assert api.helpers() == []
    assert not any(is_done(step.outcome) for step in resumed.steps)
    assert all(record.outcome is not None for record in changes(here).values())


def _die(*_arguments: object, **_named: object) -> None:
    raise StoreError("the process is gone")


# --- in place of a cut that is refused -----------------------------------------------------
NETWORK_ROWS = ("network.egress", "network.ingress", "network.dns", "network.established")


def admission_refuses(api: NodeWorld, *names: str) -> None:
    for name in names:
        api.faults.append(Fault("PATCH", f"/pods/{name}", 403, "admission webhook denied the request", dry=None))


def test_where_the_helper_is_off_a_refused_cut_says_so_and_the_evidence_is_taken(here: Context, api: NodeWorld) -> None:
    admission_refuses(api, "cards-1")
    result = contained(here)
    steps_ = {step.step: step.outcome for step in result.steps}
    assert isinstance(steps_["cut-on-node"], Refused)
    assert steps_["cut-on-node"].next_step == "ringfence node INC-1 on --reason WHY"
    assert isinstance(result.outcome, Refused)
    assert "admission webhook" in result.outcome.reason
    assert (result.run.state, len(result.seals)) == (RunState.DONE, 1)
    assert verdict(result.statement.rows) is Verdict.NOT_CONTAINED


def test_the_same_again_once_it_is_on_cuts_on_the_node_and_the_rows_turn(here: Context, api: NodeWorld) -> None:
    admission_refuses(api, "cards-1")
    before = contained(here)
    switch(here)
    cuts: list[str] = []
    result = contained(here, on_cut=lambda incident: cuts.append(incident.id))
    assert (before.incident.id, result.incident.id, cuts) == ("INC-1", "INC-1", ["INC-1"])
    assert result.outcome == Applied()
    assert result.proof is not None
    assert result.proof.level is Level.PROVEN
    rows = {row.path: row.state for row in result.statement.rows}
    assert {rows[path] for path in NETWORK_ROWS} == {PathState.DEAD}
    assert isinstance(contained(here).outcome, Already), "once more it is found in force"
    assert [order for order, _ in api.runs] == ["cut", "cut"]


def test_of_a_group_only_the_pod_that_was_refused_is_cut_on_its_node(here: Context, api: NodeWorld) -> None:
    admission_refuses(api, "cards-2")
    contained(here, "cards-1", "cards-2", accept_outage=True)
    switch(here)
    result = contained(here, "cards-1", "cards-2", accept_outage=True)
    uids = {target.name: target.uid for target in result.run.targets}
    assert api.cut == {uids["cards-2"]}
    there = {step.target_uid: step.outcome.kind for step in result.steps if step.step == "cut-on-node"}
    assert there == {uids["cards-1"]: "skipped", uids["cards-2"]: "applied"}
    assert result.outcome == Applied()


def test_a_pod_that_is_held_for_its_customers_is_held_here_as_well(here: Context, api: NodeWorld) -> None:
    """And nobody is asked the same a second time."""
    declared(here)
    asked: list[str] = []

    def ask(falling: str) -> bool:
        asked.append(falling)
        return False

    strict = replace(here, policy=replace(here.policy, serving_floor=2))
    result = contained(strict, ask=ask)
    there = next(step.outcome for step in result.steps if step.step == "cut-on-node")
    assert isinstance(there, Refused)
    assert there.next_step.endswith("--accept-outage")
    assert (len(asked), api.runs) == (1, [])


def test_a_no_to_the_cut_is_a_no_to_the_cut_on_the_node(here: Context, api: NodeWorld) -> None:
    declared(here)
    small = replace(here, policy=replace(here.policy, blast_radius_pods=0, serving_floor=2))
    waiting = contained(small, accept_outage=True)
    assert waiting.run.state is RunState.WAITING
    decided = consent.decide(small, "INC-1", Decision.REJECTED, reason="not now")
    result = verbs.carry_on(small, conductor(small), decided.run)
    there = next(step.outcome for step in result.steps if step.step == "cut-on-node")
    assert isinstance(there, Refused)
    assert "said no: not now" in there.reason
    assert api.runs == []
