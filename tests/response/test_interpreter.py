"""The interpreter on a simulated API: order, reactions, conditions, cancelling, and runs that are somebody else's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ringfence.errors import TargetError
from ringfence.model.outcome import Applied, Failed, Refused, Skipped
from ringfence.model.run import Decision, RunState
from ringfence.platform.kubernetes.resources import POD
from ringfence.playbooks import PlaybookError
from ringfence.response import consent, orders, verbs
from ringfence.response.context import Context, now
from ringfence.response.live import Live
from ringfence.response.performer import Performer
from ringfence.response.results import Result
from ringfence.response.verbs import Wish
from ringfence.store import incidents, runs
from tests.response.steps_of import conductor, contained, events, found, is_fenced, types
from tests.simulator import Fault, Simulator

pytestmark = pytest.mark.slow  # whole responses, one after the other

HEAD = """
apiVersion: ringfence.dev/v1
kind: Playbook
metadata: {name: mine, title: Mine, description: A test of ours.}
spec:
  incident: {type: compromised-workload, severity: high}
  targets: [Pod]
  steps:
"""
CUT = "    - {id: cut, title: Cut, action: network.quarantine, phase: containing}\n"
SEAL = "    - {id: seal, title: Seal, action: evidence.seal, phase: containing}\n"
LOOK = "    - {id: look, title: Look, action: access.retest, phase: containing}\n"


def play(context: Context, tmp_path: Path, *steps: str, pods: tuple[str, ...] = ("cards-1",), **wish: Any) -> Result:
    path = tmp_path / "mine.yaml"
    path.write_text(HEAD + "".join(steps))
    return verbs.respond(context, conductor(context), str(path), found(context, *pods), Wish(command="respond", **wish))


def outcomes(result: Result) -> dict[str, str]:
    return {step.step: step.outcome.kind for step in result.steps}


def test_a_playbook_of_ones_own_runs_in_its_order(context: Context, api: Simulator, tmp_path: Path) -> None:
    result = play(context, tmp_path, SEAL, CUT, LOOK)
    assert [step.step for step in result.steps] == ["seal", "cut", "look"]
    assert result.run.state is RunState.DONE
    assert is_fenced(api)
    with context.store.read() as session:
        assert incidents.get(session, "INC-1").severity.value == "high"


def test_a_failed_step_stops_what_comes_after_it_for_that_target(
    context: Context, api: Simulator, tmp_path: Path
) -> None:
    api.faults.append(Fault("POST", "/networkpolicies", 422, "no"))
    result = play(context, tmp_path, CUT, SEAL, LOOK)
    assert outcomes(result) == {"cut": "failed", "look": "applied"}
    assert (result.run.state, result.run.why) == (RunState.FAILED, "cut was failed")


def test_a_step_that_may_fail_does_not_stop_the_rest(context: Context, api: Simulator, tmp_path: Path) -> None:
    api.faults.append(Fault("POST", "/networkpolicies", 422, "no"))
    result = play(context, tmp_path, CUT.replace("}", ", on: {failed: continue}}"), SEAL)
    assert outcomes(result) == {"cut": "failed", "seal": "applied"}
    assert result.run.state is RunState.DONE


def test_one_target_that_fails_stops_no_other(context: Context, api: Simulator, tmp_path: Path) -> None:
    api.faults.append(Fault("PATCH", "/pods/cards-2", 422, "not this one"))
    result = play(context, tmp_path, CUT, SEAL, LOOK, pods=("cards-1", "cards-2"), accept_outage=True)
    by_target = {(step.step, step.target_uid): step.outcome.kind for step in result.steps}
    uids = {target.name: target.uid for target in result.run.targets}
    assert by_target["cut", uids["cards-1"]] == by_target["seal", uids["cards-1"]] == "applied"
    assert by_target["cut", uids["cards-2"]] in ("failed", "refused")
    assert ("seal", uids["cards-2"]) not in by_target
    assert "look" in outcomes(result), "the incident as a whole is looked at all the same"


def test_of_two_serving_pods_one_is_cut_and_the_floor_holds_the_other(context: Context, api: Simulator) -> None:
    result = contained(context, "cards-1", "cards-2")
    assert [is_fenced(api, name) for name in ("cards-1", "cards-2")] == [True, False]
    assert isinstance(result.outcome, Failed)
    assert "cards would have 0 of 2 serving" in result.outcome.problem.why
    assert len(result.seals) == 2, "the evidence of both is taken"


def test_a_group_shares_one_deny_and_each_pod_has_its_own_step(context: Context, api: Simulator) -> None:
    result = contained(context, "cards-1", "cards-2", accept_outage=True)
    assert [step.outcome.kind for step in result.steps if step.action == "network.quarantine"] == ["applied"] * 2
    posts = [request for request in api.writes if request.method == "POST" and request.path.endswith("policies")]
    assert len(posts) == 1
    labels = {event.step for event in events(context) if event.type == "step.finished"}
    assert {label for label in labels if label.startswith("cut")} == {"cut/1/1", "cut/1/2"}


@pytest.mark.parametrize(
    ("condition", "kind"), [("severity == 'high'", "applied"), ("severity == 'medium'", "skipped")]
)
def test_a_condition_decides_and_what_it_leaves_out_is_skipped(
    context: Context, api: Simulator, tmp_path: Path, condition: str, kind: str
) -> None:
    step = CUT.replace("}", f', when: "incident.{condition}"}}')
    result = play(context, tmp_path, step, LOOK)
    assert outcomes(result)["cut"] == kind
    assert is_fenced(api) is (kind == "applied")
    if kind == "skipped":
        assert isinstance(result.steps[0].outcome, Skipped)
        assert result.done("network.quarantine") is False, "skipped is never done"


def test_a_condition_on_the_target_runs_a_step_on_those_alone_that_it_holds_for(
    context: Context, api: Simulator, tmp_path: Path
) -> None:
    api.faults.append(Fault("PATCH", "/pods/cards-2", 422, "not this one"))
    cut = CUT.replace("}", ", on: {refused: continue, failed: continue}}")
    seal = SEAL.replace("}", ", when: \"steps.cut.on_target in ['refused', 'failed']\"}")
    last = SEAL.replace("id: seal,", "id: then,").replace("}", ", when: \"steps.seal.on_target == 'skipped'\"}")
    result = play(context, tmp_path, cut, seal, last, pods=("cards-1", "cards-2"), accept_outage=True)
    uids = {target.name: target.uid for target in result.run.targets}
    by_target = {(step.step, step.target_uid): step.outcome.kind for step in result.steps}
    assert [by_target["seal", uids[name]] for name in ("cards-1", "cards-2")] == ["skipped", "applied"]
    assert [by_target["then", uids[name]] for name in ("cards-1", "cards-2")] == ["applied", "skipped"]


def test_a_target_that_a_condition_leaves_out_is_stopped_where_that_stops(
    context: Context, api: Simulator, tmp_path: Path
) -> None:
    api.faults.append(Fault("PATCH", "/pods/cards-2", 422, "not this one"))
    cut = CUT.replace("}", ", on: {refused: continue, failed: continue}}")
    seal = SEAL.replace("}", ", when: \"steps.cut.on_target == 'applied'\", on: {skipped: stop}}")
    last = SEAL.replace("id: seal,", "id: then,")
    result = play(context, tmp_path, cut, seal, last, pods=("cards-1", "cards-2"), accept_outage=True)
    uids = {target.name: target.uid for target in result.run.targets}
    assert [step.target_uid for step in result.steps if step.step == "then"] == [uids["cards-1"]]
    assert result.run.why == "seal was skipped"


def test_what_is_about_the_incident_has_one_outcome_for_every_target(
    context: Context, api: Simulator, tmp_path: Path
) -> None:
    seal = SEAL.replace("}", ", when: \"steps.look.on_target == 'applied'\"}")
    look = LOOK.replace("id: look,", "id: again,").replace("}", ", when: \"steps.seal.on_target == 'applied'\"}")
    assert set(outcomes(play(context, tmp_path, CUT, LOOK, seal, look)).values()) == {"applied"}


def test_a_playbook_that_the_linter_refuses_does_not_run(context: Context, api: Simulator, tmp_path: Path) -> None:
    delete = "    - {id: gone, title: Delete, action: pod.delete, phase: eradicating}\n"
    with pytest.raises(PlaybookError, match=r"what no earlier step has sealed"):
        play(context, tmp_path, CUT, delete)
    assert api.writes == []
    with context.store.read() as session:
        assert incidents.newest_first(session) == ()


def test_a_cancelled_run_starts_no_further_step_and_what_stands_stands(context: Context, api: Simulator) -> None:
    waiting = verbs.respond(
        context, conductor(context), verbs.COMPROMISED, found(context, "cards-1"), Wish(command="respond")
    )
    after = orders.cancel(context, waiting.run, reason="not ours")
    assert after.state is RunState.CANCELLED
    assert is_fenced(api)
    assert "run.cancel" in types(context)
    with pytest.raises(TargetError, match="over"):
        orders.cancel(context, after, reason="again")


def test_a_run_that_is_cancelled_while_it_runs_stops_before_its_next_step(context: Context, api: Simulator) -> None:
    order = orders.Order(
        *(verbs.find(verbs.COMPROMISED)), found(context, "cards-1"), "", verbs._how(Wish(), verbs.ALL, decided=False)
    )
    run = orders.place(context, order).run
    with context.store.write() as session:
        runs.request_cancel(session, run, reason="stop", actor="kubernetes:cluster-1/bob", now=now())
    assert conductor(context).conduct(run.id).state is RunState.CANCELLED
    assert not is_fenced(api)


def test_a_run_that_another_executor_took_is_left_alone(context: Context, api: Simulator) -> None:
    order = orders.Order(
        *(verbs.find(verbs.COMPROMISED)), found(context, "cards-1"), "", verbs._how(Wish(), verbs.ALL, decided=False)
    )
    run = orders.place(context, order).run
    with context.store.write() as session:
        runs.take(session, run, "another/1", actor="x", now=now(), new_segment=True)
    performer = Performer(context, Live(), "me/2")
    answer = performer.perform(run.id, "cut", run.targets[0].uid, held="", workflow="another/1")
    assert answer == {"superseded": "another/1"}
    assert api.writes == []


def test_a_finished_step_is_answered_from_its_row_and_not_done_again(context: Context, api: Simulator) -> None:
    result = contained(context)
    writes = len(api.writes)
    again = Performer(context, Live(), "me/2").perform(
        result.run.id, "cut", result.run.targets[0].uid, held="", workflow="w"
    )
    assert again["outcome"]["kind"] == "applied"
    assert len(api.writes) == writes


def test_the_playbook_is_frozen_when_the_run_starts(context: Context, tmp_path: Path) -> None:
    result = play(context, tmp_path, CUT)
    (tmp_path / "mine.yaml").write_text("not the same any more")
    with context.store.read() as session:
        frozen = runs.playbook_bytes(session, result.run.id)
    assert frozen.decode() == HEAD + CUT


def test_an_action_that_is_not_enabled_is_refused_and_the_rest_goes_on(with_policy: Any, api: Simulator) -> None:
    context = with_policy(disabled=frozenset({"network.quarantine"}))
    result = contained(context)
    assert isinstance(result.outcome, Refused)
    assert "not enabled" in result.outcome.reason
    assert not is_fenced(api)
    assert result.seals, "the evidence is taken all the same"


def test_a_persons_no_ends_the_run_whatever_the_playbook_says(context: Context, api: Simulator, tmp_path: Path) -> None:
    ask = "    - {id: ask, title: Ask, action: human.approve, phase: eradicating, with: {reason: May it go}"
    delete = "    - {id: gone, title: Delete, action: pod.delete, phase: eradicating}\n"
    play(context, tmp_path, CUT, SEAL, ask + ", on: {refused: continue}}\n", delete)
    other = replace(context, principal=context.principal.model_copy(update={"subject": "bob"}))
    decided = consent.decide(other, "INC-1", Decision.REJECTED, reason="no")
    result = verbs.carry_on(context, conductor(context), decided.run)
    assert result.run.state is RunState.FAILED
    assert "gone" not in outcomes(result)
    assert api.get(POD, "bank", "cards-1") is not None


def test_a_pod_that_is_gone_is_not_cut_and_no_verb_calls_that_done(context: Context, api: Simulator) -> None:
    pods = found(context, "cards-1")
    del api.objects["/api/v1", "pods", "bank", "cards-1"]
    result = verbs.respond(context, conductor(context), verbs.COMPROMISED, pods, Wish(command="respond"))
    (cut,) = [step for step in result.steps if step.action == "network.quarantine"]
    assert isinstance(cut.outcome, Skipped)
    assert isinstance(result.outcome, Failed), "it was seen before, and could be neither cut nor sealed"
    assert "skipped" in result.outcome.problem.why


def test_what_a_condition_leaves_out_is_no_failure_of_the_run(context: Context, tmp_path: Path) -> None:
    never = CUT.replace("}", """, when: "incident.severity == 'medium'"}""")
    result = play(context, tmp_path, never, SEAL)
    assert isinstance(result.outcome, Applied)


def test_eradicate_answers_for_what_the_frozen_playbook_did(context: Context, tmp_path: Path) -> None:
    move = "    - {id: on, title: On, action: incident.move, phase: eradicating, with: {state: eradicating}}\n"
    played = play(context, tmp_path, CUT, SEAL, move)
    result = verbs.eradicate(context, conductor(context), played.incident, Wish(command="eradicate"))
    assert result.outcome is not None, "no command ends without saying what became of it"
