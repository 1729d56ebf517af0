"""``recover`` on a simulated API: each gate says no for its reason, and what was stopped or taken comes back."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from ringfence.model.access import PathState
from ringfence.model.incident import Determination, Incident, State
from ringfence.model.outcome import Already, Applied, Failed, Outcome, Refused, Skipped
from ringfence.model.proof import Level
from ringfence.model.recovery_events import IndicatorReturned, Reviewed, WatchOpened
from ringfence.model.run import Decision, RunState
from ringfence.platform.kubernetes.resources import (
    APPLICATION,
    DEPLOYMENT,
    POD,
    ROLE_BINDING,
    SCALED_OBJECT,
)
from ringfence.response import closing, consent, statement, verbs
from ringfence.response.conduct import Conductor
from ringfence.response.context import Context
from ringfence.response.results import Result
from ringfence.response.verbs import Wish
from ringfence.store import access, evidence, incidents, runs
from tests.response.inline_engine import InlineEngine
from tests.response.steps_of import conductor, contained, eradicated, events, found, is_fenced
from tests.simulator import Fault, Simulator, _key
from tests.small_bank import add_pod, pod_body

Json = dict[str, Any]
pytestmark = pytest.mark.slow  # whole responses, one after the other

COMMIT = "c0ffee" + "0" * 34
OTHER = "badbad" + "1" * 34
GOOD_IMAGE = "registry.test/cards:1.5"


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not come up here never does."""
    monkeypatch.setattr("ringfence.response.recovery.check._READY_SECONDS", 0.2)
    monkeypatch.setattr("ringfence.response.recovery.window._RETEST_SECONDS", 0.1)


def incident(context: Context) -> Incident:
    with context.store.read() as session:
        return incidents.get(session, "INC-1")


def recovered(context: Context, **wish: Any) -> Result:
    wanted = Wish(command="recover", **{"watch_seconds": 1, **wish})
    return verbs.recover(context, conductor(context), incident(context), wanted)


def outcomes(result: Result) -> dict[str, Outcome]:
    return {step.step: step.outcome for step in result.steps}


def accept_all(context: Context, *but: str) -> None:
    statement.retest(context, incident(context))
    with context.store.read() as session:
        rows = access.rows(session, "INC-1")
    for row in rows:
        if row.is_open and row.path not in but:
            statement.accept(context, incident(context), row.path, "looked at")


def stopped(context: Context) -> None:
    """The whole of `stop-workload` with its yes: no pod of cards runs."""
    everything = found(context, "deployment/cards", playbook="stop-workload")
    wish = Wish(command="respond", shape="fence", accept_outage=True)
    verbs.respond(context, conductor(context), "stop-workload", everything, wish)
    decided = consent.decide(context, "INC-1", Decision.APPROVED, reason="it is time")
    result = verbs.carry_on(context, conductor(context), decided.run)
    assert result.run.state is RunState.DONE, outcomes(result)


def replicas(api: Simulator) -> int:
    deployment = api.get(DEPLOYMENT, "bank", "cards")
    assert deployment is not None
    return int(deployment["spec"]["replicas"])


def sealed(context: Context) -> set[str]:
    """The uids of what has a complete seal."""
    with context.store.read() as session:
        return {seal.subject_uid for seal in evidence.seals(session, "INC-1") if seal.complete}


def set_template(api: Simulator, image: str, **pod: Any) -> None:
    spec = {"containers": [{"name": "cards", "image": image}], **pod}
    api.objects[_key(DEPLOYMENT, "bank", "cards")]["spec"]["template"] = {"metadata": {}, "spec": spec}


def roll_out(api: Simulator, image: str) -> None:
    """The template has another image, and each pod was replaced by one of it."""
    set_template(api, image)
    for pod in pods_of_cards(api):
        pod["spec"]["containers"][0]["image"] = image
        pod["status"]["containerStatuses"][0]["imageID"] = image


def pods_of_cards(api: Simulator) -> list[Json]:
    return [pod for pod in api.all(POD) if pod["metadata"].get("ownerReferences")]


def deliver(api: Simulator, revision: str, *, automated: bool = True, annotated: bool = True) -> Json:
    """Argo CD delivers the Deployment, and has compared it with that revision; comparisons never end late."""
    deployment = api.objects[_key(DEPLOYMENT, "bank", "cards")]
    deployment["metadata"]["annotations"] = {"argocd.argoproj.io/tracking-id": "cards:apps/Deployment:bank/cards"}
    policy = {"automated": {"selfHeal": True}} if automated else {}
    status = {"sync": {"status": "Synced", "revision": revision}, "reconciledAt": "2099-01-01T00:00:00Z"}
    meta = {"annotations": {"owner": "cards-team"}} if annotated else {}
    return api.add(APPLICATION, "argocd", "cards", {"spec": {"syncPolicy": policy}, "status": status}, **meta)


class ArgoCd:
    """Takes the request for a comparison off the Application, as its controller does."""

    def __init__(self, api: Simulator, compare: Callable[[Json], None] = lambda _application: None) -> None:
        self._api, self._compare = api, compare
        self._stop = threading.Event()
        self.asked = 0
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> ArgoCd:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(0.02):
            with self._api._lock:
                for application in self._api.all(APPLICATION):
                    annotations = application["metadata"].get("annotations") or {}
                    if annotations.pop("argocd.argoproj.io/refresh", None):
                        self.asked += 1
                    self._compare(application)


# --- the gates ------------------------------------------------------------------------------------------------------


def test_while_a_suspect_lives_nothing_comes_back(context: Context) -> None:
    contained(context)
    result = recovered(context)
    assert isinstance(result.outcome, Refused)
    assert "left running: Pod bank/cards-1" in result.outcome.reason
    assert "ringfence eradicate INC-1" in result.outcome.next_step
    assert list(outcomes(result)) == ["clean"], "the gates after it were not asked"
    assert incident(context).state is State.CONTAINING


def test_a_way_in_that_nobody_accepted_keeps_it_shut(context: Context) -> None:
    contained(context)
    eradicated(context)
    result = recovered(context)
    assert isinstance(result.outcome, Refused)
    assert "siblings.image is unseen" in result.outcome.reason
    assert "ringfence accept INC-1" in result.outcome.next_step


def test_a_template_with_the_suspects_image_is_a_hole(context: Context, api: Simulator) -> None:
    set_template(api, "registry.test/cards:1.4")
    contained(context)
    eradicated(context)
    accept_all(context, "workload.replacement")
    refused = outcomes(recovered(context))["hole"]
    assert isinstance(refused, Refused)
    assert "Deployment bank/cards would start the suspects' image again: registry.test/cards:1.4" in refused.reason
    statement.accept(context, incident(context), "workload.replacement", "the fix comes tomorrow")
    result = recovered(context)
    step = next(step for step in result.steps if step.step == "hole")
    assert step.outcome == Applied()
    assert step.proof is not None
    assert (step.proof.level, "alice" in step.proof.claim) == (Level.NONE, True), "a person's word shuts nothing"
    assert result.run.state is RunState.DONE
    assert incident(context).state is State.POST_INCIDENT


def test_another_image_closes_the_hole_and_turns_the_row(context: Context, api: Simulator) -> None:
    contained(context)
    eradicated(context)
    roll_out(api, GOOD_IMAGE)
    accept_all(context)
    result = recovered(context)
    rows = {row.path: row for row in result.statement.rows}
    assert rows["workload.replacement"].state is PathState.DEAD
    assert GOOD_IMAGE in rows["workload.replacement"].why
    assert incident(context).state is State.POST_INCIDENT


# --- what was stopped -----------------------------------------------------------------------------------------------


def test_a_stopped_workload_comes_back_one_pod_first(context: Context, api: Simulator) -> None:
    stopped(context)
    assert replicas(api) == 0
    set_template(api, GOOD_IMAGE)
    accept_all(context)
    result = recovered(context)
    assert result.run.state is RunState.DONE, result.outcome
    scaled = [write for write in api.writes if write.path.endswith("/deployments/cards/scale")]
    assert [json.loads(write.body)[-1]["value"] for write in scaled[-2:]] == [1, 2]
    assert (replicas(api), len(pods_of_cards(api))) == (2, 2)
    assert {pod["spec"]["containers"][0]["image"] for pod in pods_of_cards(api)} == {GOOD_IMAGE}
    assert isinstance(outcomes(result)["restore-rest"], Already), "done once"
    assert not any("stop" in words for words in closing.still_in_force(context, incident(context)))


def test_keda_leaves_a_stopped_workload_alone_until_all_of_it_is_back(context: Context, api: Simulator) -> None:
    api.add(SCALED_OBJECT, "bank", "cards", {"spec": {"scaleTargetRef": {"name": "cards"}}}, annotations={"team": "a"})
    stopped(context)
    statement.retest(context, incident(context))
    with context.store.read() as session:
        (row,) = [one for one in access.rows(session, "INC-1") if one.path == "keda.scaling"]
    assert row.state is PathState.UNSEEN, "no KEDA runs here that could report it"
    paused, stop = (write_to(api, path) for path in ("/scaledobjects/cards", "/deployments/cards/scale"))
    assert paused < stop, "before anything could start or end a pod"
    set_template(api, GOOD_IMAGE)
    accept_all(context)
    assert isinstance(outcomes(recovered(context))["let-scale"], Applied)
    found = api.get(SCALED_OBJECT, "bank", "cards")
    assert found is not None
    assert found["metadata"]["annotations"] == {"team": "a"}
    back, given = (write_to(api, path) for path in ("/scaledobjects/cards", "/deployments/cards/scale"))
    assert back > given, "one pod first, and the saved number: both are tried before KEDA has its say"


def write_to(api: Simulator, path: str) -> int:
    """Where in the order of writes the last one to this path is."""
    return max(number for number, write in enumerate(api.writes) if write.path.endswith(path))


def test_the_suspects_template_does_not_start_before_somebody_took_it_on(context: Context, api: Simulator) -> None:
    set_template(api, "registry.test/cards:1.4")
    stopped(context)
    accept_all(context, "workload.replacement")
    assert isinstance(recovered(context).outcome, Refused)
    assert (replicas(api), pods_of_cards(api)) == (0, [])


def test_a_canary_that_is_no_good_ends(context: Context, api: Simulator) -> None:
    """Its node is its own: the fresh look says so, and the one pod is taken back."""
    stopped(context)
    set_template(api, GOOD_IMAGE)
    for like in api._stopped.values():
        like["spec"]["hostPID"] = True
    accept_all(context)
    before = sealed(context)
    result = recovered(context)
    refused = outcomes(result)["try-canary"]
    assert isinstance(refused, Refused)
    assert "hostPID is on" in refused.reason
    assert "--accept-findings" in refused.next_step
    assert (replicas(api), result.run.state) == (0, RunState.FAILED)
    assert len(sealed(context) - before) == 1, "the canary ended, and what was in it is lost"
    again = recovered(context, accept_findings="it is the node's own agent")
    assert (again.run.state, replicas(api)) == (RunState.DONE, 2)


def test_a_canary_that_cannot_be_sealed_stays(context: Context, api: Simulator) -> None:
    """What is in it would be lost; a person is told, and ends it by hand."""
    stopped(context)
    set_template(api, GOOD_IMAGE)
    for like in api._stopped.values():
        like["spec"]["hostPID"] = True
    accept_all(context)
    api.faults.append(Fault("GET", "/log", 503))
    result = recovered(context)
    assert isinstance(outcomes(result)["try-canary"], Refused)
    assert (replicas(api), result.run.state) == (1, RunState.FAILED)


def test_a_check_that_fails_later_stops_nothing(context: Context, api: Simulator) -> None:
    """Once the saved number is back there is no canary: two pods that serve are not scaled down for one bad answer."""
    stopped(context)
    set_template(api, GOOD_IMAGE)
    for like in api._stopped.values():
        like["spec"]["containers"][0]["readinessProbe"] = {"httpGet": {"path": "/healthz", "port": 8080}}
    accept_all(context)
    api.answers["/healthz"] = 200

    class Answers(dict[str, int]):
        def get(self, path: str, default: Any = None) -> Any:
            return 503 if replicas(api) == 2 else super().get(path, default)

    api.answers = Answers(api.answers)
    result = recovered(context)
    assert isinstance(outcomes(result)["try-all"], Failed)
    assert replicas(api) == 2


def test_a_size_that_somebody_gave_it_is_theirs(context: Context, api: Simulator) -> None:
    stopped(context)
    set_template(api, GOOD_IMAGE)
    accept_all(context)
    api.objects[_key(DEPLOYMENT, "bank", "cards")]["spec"]["replicas"] = 5
    refused = outcomes(recovered(context))["canary"]
    assert isinstance(refused, Refused)
    assert "was changed by somebody since it was stopped: 5 replicas" in refused.reason
    assert replicas(api) == 5


def test_a_real_request_must_be_answered(context: Context, api: Simulator) -> None:
    stopped(context)
    set_template(api, GOOD_IMAGE)
    for like in api._stopped.values():
        like["spec"]["containers"][0]["readinessProbe"] = {"httpGet": {"path": "/healthz", "port": 8080}}
    accept_all(context)
    api.answers["/healthz"] = 503
    failed = outcomes(recovered(context))["try-canary"]
    assert isinstance(failed, Failed)
    assert "GET :8080/healthz answered 503" in failed.problem.why
    assert replicas(api) == 0
    api.answers["/healthz"] = 200
    result = recovered(context)
    proof = next(step.proof for step in result.steps if step.step == "try-canary")
    assert proof is not None
    assert "GET :8080/healthz 200" in proof.claim


def test_rights_that_were_taken_come_back(context: Context, api: Simulator) -> None:
    contained(context)
    before = api.get(ROLE_BINDING, "bank", "cards")
    verbs.cut_identity(context, conductor(context), incident(context), Wish(command="cut", bindings=True))
    assert api.get(ROLE_BINDING, "bank", "cards") is None
    eradicated(context)
    roll_out(api, GOOD_IMAGE)
    accept_all(context)
    result = recovered(context)
    assert outcomes(result)["rebind"] == Applied()
    after = api.get(ROLE_BINDING, "bank", "cards")
    assert before is not None
    assert after is not None
    assert (after["roleRef"], after["subjects"]) == (before["roleRef"], before["subjects"])


def test_rights_that_may_not_be_given_back_are_said(context: Context, api: Simulator) -> None:
    """The run goes on to its end, and is no success: the account lacks what it needs."""
    contained(context)
    verbs.cut_identity(context, conductor(context), incident(context), Wish(command="cut", bindings=True))
    eradicated(context)
    roll_out(api, GOOD_IMAGE)
    accept_all(context)
    api.faults.append(Fault("POST", "/rolebindings", 403, dry=None))
    result = recovered(context)
    assert isinstance(outcomes(result)["rebind"], Refused)
    assert result.run.state is RunState.DONE
    assert isinstance(result.outcome, Refused), "a recovery without the account's rights reads as a success"


# --- Argo CD --------------------------------------------------------------------------------------------------------


def argo_stopped(context: Context, api: Simulator, revision: str = COMMIT) -> None:
    set_template(api, GOOD_IMAGE)
    deliver(api, revision)
    stopped(context)
    application = api.get(APPLICATION, "argocd", "cards")
    assert application is not None
    assert "automated" not in application["spec"]["syncPolicy"]
    accept_all(context)


def automated(api: Simulator) -> Json | None:
    application = api.get(APPLICATION, "argocd", "cards")
    assert application is not None
    found: Json | None = application["spec"]["syncPolicy"].get("automated")
    return found


def test_nobody_has_approved_the_commit(context: Context, api: Simulator) -> None:
    argo_stopped(context, api)
    with ArgoCd(api) as argo:
        refused = outcomes(recovered(context))["source"]
        assert argo.asked == 1
    assert isinstance(refused, Refused)
    assert f"Application cards would deliver {COMMIT}, and nobody has approved that" in refused.reason
    assert f"ringfence recover INC-1 --revision {COMMIT}" in refused.next_step
    with ArgoCd(api):
        wrong = outcomes(recovered(context, revisions=(OTHER,)))["source"]
    assert isinstance(wrong, Refused)
    assert f"approved is {OTHER}" in wrong.reason
    assert (automated(api), replicas(api)) == (None, 0)


@pytest.mark.parametrize("given", [COMMIT, COMMIT[:8], f"cards={COMMIT}"])
def test_the_approved_commit_comes_back(context: Context, api: Simulator, given: str) -> None:
    argo_stopped(context, api)
    with ArgoCd(api):
        result = recovered(context, revisions=(given,))
    assert result.run.state is RunState.DONE, result.outcome
    assert (automated(api), replicas(api)) == ({"selfHeal": True}, 2)


def test_another_applications_commit_is_not_this_ones(context: Context, api: Simulator) -> None:
    argo_stopped(context, api)
    with ArgoCd(api):
        assert isinstance(outcomes(recovered(context, revisions=(f"loans={COMMIT}",)))["source"], Refused)


def test_what_argo_cd_cannot_compare_is_not_approved(context: Context, api: Simulator) -> None:
    argo_stopped(context, api)
    conditions = [{"type": "ComparisonError", "message": "the repository does not answer"}]
    api.objects[_key(APPLICATION, "argocd", "cards")]["status"]["conditions"] = conditions
    with ArgoCd(api):
        failed = outcomes(recovered(context, revisions=(COMMIT,)))["source"]
    assert isinstance(failed, Failed)
    assert failed.problem.why == "the repository does not answer"
    assert automated(api) is None


def test_a_branch_that_moves_on_is_frozen_again(context: Context, api: Simulator) -> None:
    """Between the gate and the sync somebody pushed: what comes is not what was approved."""
    argo_stopped(context, api)

    def push(application: Json) -> None:
        if "automated" in application["spec"]["syncPolicy"]:
            application["status"]["sync"]["revision"] = OTHER

    with ArgoCd(api, push):
        result = recovered(context, revisions=(COMMIT,))
    refused = outcomes(result)["try-all"]
    assert isinstance(refused, Refused)
    assert f"would deliver {OTHER}: that is not what was approved" in refused.reason
    assert automated(api) is None
    assert result.run.state is RunState.FAILED


def test_a_template_from_git_starts_after_argo_cd_brought_it(context: Context, api: Simulator) -> None:
    """The suspects' template never runs as a canary: the approved commit has another, and comes first."""
    set_template(api, "registry.test/cards:1.4")
    deliver(api, COMMIT)
    stopped(context)
    accept_all(context, "workload.replacement")

    def bring(application: Json) -> None:
        if "automated" in application["spec"]["syncPolicy"]:
            set_template(api, GOOD_IMAGE)

    with ArgoCd(api, bring):
        result = recovered(context, revisions=(COMMIT,))
    assert isinstance(outcomes(result)["canary"], Skipped)
    assert result.run.state is RunState.DONE, result.outcome
    assert result.outcome == Applied(), "what was rightly held back reads as something that was not done"
    assert {pod["spec"]["containers"][0]["image"] for pod in pods_of_cards(api)} == {GOOD_IMAGE}
    assert replicas(api) == 2


# --- the window -----------------------------------------------------------------------------------------------------


def during_the_window(context: Context, happens: Callable[[], None], **wish: Any) -> Result:
    """``happens`` once the window is open. The engine of these tests runs one thing at a time: what the window orders
    is carried out by a second conductor."""

    def wait() -> None:
        deadline = time.monotonic() + 30
        while not any(isinstance(event, WatchOpened) for event in events(context)) and time.monotonic() < deadline:
            time.sleep(0.05)
        happens()

    second = Conductor(context, InlineEngine())
    second.launch()
    thread = threading.Thread(target=wait)
    thread.start()
    try:
        return recovered(context, watch_seconds=30, **wish)
    finally:
        thread.join()
        second.close()


def test_a_suspect_image_that_comes_back_is_cut_off(context: Context, api: Simulator) -> None:
    contained(context)
    eradicated(context)
    roll_out(api, GOOD_IMAGE)
    accept_all(context)
    owner = pods_of_cards(api)[0]["metadata"]["ownerReferences"]

    def return_() -> None:
        api.objects[_key(DEPLOYMENT, "bank", "cards")]["spec"]["replicas"] = 3
        add_pod(api, "cards-9", pod_body(), ownerReferences=owner)

    result = during_the_window(context, return_)
    assert isinstance(result.outcome, Refused)
    assert "it came back: Pod bank/cards-9: runs the suspects' image" in result.outcome.reason
    assert is_fenced(api, "cards-9")
    assert not any(
        is_fenced(api, pod["metadata"]["name"]) for pod in pods_of_cards(api) if pod["metadata"]["name"] != "cards-9"
    )
    returned = next(event for event in events(context) if isinstance(event, IndicatorReturned))
    with context.store.read() as session:
        cut = runs.get(session, returned.run)
    assert (cut.state, cut.order.phases) == (RunState.DONE, ("containing",))
    assert incident(context).state is State.CONTAINING
    assert result.seals, "what came back is evidence, too"


def test_a_row_that_opens_again_ends_the_window(context: Context, api: Simulator) -> None:
    contained(context)
    eradicated(context)
    roll_out(api, GOOD_IMAGE)
    accept_all(context)
    result = during_the_window(context, lambda: set_template(api, "registry.test/cards:1.4"))
    assert isinstance(result.outcome, Refused)
    assert "workload.replacement is alive again" in result.outcome.reason
    assert incident(context).state is State.CONTAINING


# --- the end --------------------------------------------------------------------------------------------------------


def test_closing_says_cause_and_lessons_and_what_stays(context: Context, api: Simulator) -> None:
    contained(context)
    eradicated(context)
    roll_out(api, GOOD_IMAGE)
    accept_all(context)
    recovered(context)
    after, _ = closing.close(
        context,
        incident(context),
        root_cause="a deserialisation flaw",
        lessons=("scan images before they are admitted",),
        determination=Determination.SECURITY_INCIDENT,
        reason="",
    )
    assert (after.state, after.determination) == (State.CLOSED, Determination.SECURITY_INCIDENT)
    review = events(context)[-1] if isinstance(events(context)[-1], Reviewed) else None
    assert review is not None
    assert (review.root_cause, review.lessons) == ("a deserialisation flaw", ("scan images before they are admitted",))
