"""A hole that admission closes: tried by dry runs, and shut whenever something else than a policy could be the reason.

Admission is played here; real policies: tests/lab/test_admitted.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from ringfence.model.catalogue import HoleParams
from ringfence.model.outcome import Applied, Failed, Outcome, Refused
from ringfence.model.proof import Level, Proof
from ringfence.playbooks import find, load
from ringfence.response import verbs
from ringfence.response.context import Context
from ringfence.response.live import Live
from ringfence.response.recovery import gates, scope
from ringfence.response.scene import Ended, Scene
from ringfence.response.verbs import Wish
from ringfence.store import incidents, runs
from tests.response.steps_of import contained
from tests.response.test_recover import COMMIT, GOOD_IMAGE, accept_all, deliver, set_template
from tests.simulator import Refusal, Simulator, _is_dry
from tests.wire import Answer, Request

pytestmark = pytest.mark.slow  # whole responses, one after the other

Json = dict[str, Any]
BAD = "registry.test/cards:1.4"
"""What the pods of the small bank ask for."""
VAP = "ValidatingAdmissionPolicy 'no-root' with binding 'no-root-bank' denied request: no privileged pods"
KYVERNO = 'admission webhook "validate.kyverno.svc-fail" denied the request: no privileged pods'
POD_SECURITY = 'pods "x" is forbidden: violates PodSecurity "baseline:latest": privileged'
QUOTA = 'pods "x" is forbidden: exceeded quota: small'
INVALID = 'Pod "x" is invalid: spec.containers[0].image: Required value'


@pytest.fixture
def asked(api: Simulator) -> list[Json]:
    """The pods that were sent as dry runs; what admission says to each is ``api.says`` of it."""
    sent: list[Json] = []
    real = api._answer

    def looked(request: Request) -> Answer:
        if request.method == "POST" and request.path.endswith("/pods") and _is_dry(request):
            pod = json.loads(request.body)
            sent.append(pod)
            if words := api.says(pod):  # type: ignore[attr-defined]
                raise Refusal(422 if "invalid" in words or "Validating" in words else 403, words)
        return real(request)

    api._answer = looked  # type: ignore[method-assign]
    api.says = lambda _pod: ""  # type: ignore[attr-defined]
    return sent


def privileged(pod: Json) -> bool:
    return any((one.get("securityContext") or {}).get("privileged") for one in pod["spec"]["containers"])


def enforce(api: Simulator, refuses: Callable[[Json], bool], words: str = VAP) -> None:
    api.says = lambda pod: words if refuses(pod) else ""  # type: ignore[attr-defined]


def judged(context: Context, closed_by: str, *, revisions: tuple[str, ...] = ()) -> tuple[Outcome, Proof | None]:
    with context.store.read() as session:
        incident = incidents.get(session, "INC-1")
        run = runs.of_incident(session, "INC-1")[-1]
    run = run.model_copy(update={"order": verbs.order_of(Wish(command="recover", revisions=revisions))})
    step = load(*find("recover")).step("hole")
    params = HoleParams.model_validate({"closed_by": closed_by})
    scene = Scene(context, Live(), incident, run, step, params)
    return gates.judge(scene, scope.read(context, incident), closed_by)


@pytest.fixture
def suspect(context: Context, api: Simulator, asked: list[Json]) -> Json:
    """cards-1 was privileged; the workload is to come back without that, of the same image."""
    pod: Json = api.objects["/api/v1", "pods", "bank", "cards-1"]
    pod["spec"]["containers"][0]["securityContext"] = {"privileged": True}
    set_template(api, BAD)
    contained(context)
    asked.clear()
    return pod


@pytest.mark.parametrize("words", [VAP, KYVERNO, POD_SECURITY], ids=["native", "kyverno", "pod security"])
def test_a_policy_that_refuses_the_suspect_and_lets_its_workload_come_closes_it(
    context: Context, api: Simulator, suspect: Json, asked: list[Json], words: str
) -> None:
    enforce(api, privileged, words)
    written = len(api.writes)
    outcome, proof = judged(context, "tightened-policy")
    assert outcome == Applied()
    assert proof is not None
    assert proof.level is Level.PROVEN
    assert "a pod like Pod bank/cards-1" in proof.by
    assert words in proof.by
    assert len(api.writes) == written, "they were dry runs"
    tried, to_come = asked
    assert tried["spec"]["containers"] == suspect["spec"]["containers"]
    assert tried["metadata"]["labels"]["app"] == "cards", "a policy may go by labels"
    assert "ringfence.dev/fence" not in tried["metadata"]["labels"]
    assert "nodeName" not in tried["spec"]
    assert "ownerReferences" not in tried["metadata"]
    assert [one["image"] for one in to_come["spec"]["containers"]] == [BAD]


def test_one_that_only_audits_closes_nothing(context: Context, suspect: Json) -> None:
    outcome, proof = judged(context, "tightened-policy")
    assert isinstance(outcome, Refused)
    assert "a pod like Pod bank/cards-1 would be admitted in bank" in outcome.reason
    assert "accept INC-1 workload.replacement" in outcome.next_step
    assert proof is None


def test_a_policy_that_refuses_what_is_to_come_as_well_closes_nothing(
    context: Context, api: Simulator, suspect: Json
) -> None:
    enforce(api, lambda _pod: True)
    outcome, _ = judged(context, "tightened-policy")
    assert isinstance(outcome, Refused)
    assert "the template of Deployment bank/cards, which is to come, is refused in bank as well" in outcome.reason


@pytest.mark.parametrize("words", [QUOTA, INVALID], ids=["quota", "validation"])
def test_a_refusal_that_is_no_policy_says_nothing(context: Context, api: Simulator, suspect: Json, words: str) -> None:
    """Such a pod would come in as soon as there is room for it."""
    enforce(api, privileged, words)
    outcome, proof = judged(context, "tightened-policy")
    assert isinstance(outcome, Failed)
    assert outcome.problem.code == "not-tried"
    assert words in outcome.problem.why
    assert proof is None


def test_a_template_that_argo_cd_is_to_bring_is_a_promise(context: Context, api: Simulator, suspect: Json) -> None:
    set_template(api, BAD)
    deployment = api.objects["/apis/apps/v1", "deployments", "bank", "cards"]
    deployment["spec"]["template"]["spec"]["containers"][0]["securityContext"] = {"privileged": True}
    deliver(api, COMMIT)
    enforce(api, privileged)
    assert isinstance(judged(context, "tightened-policy")[0], Refused)
    outcome, proof = judged(context, "tightened-policy", revisions=(COMMIT,))
    assert outcome == Applied()
    assert proof is not None
    assert proof.level is Level.REQUESTED


def test_a_container_that_was_put_into_it_cannot_be_tried_as_a_new_pod(
    context: Context, api: Simulator, asked: list[Json]
) -> None:
    pod: Json = api.objects["/api/v1", "pods", "bank", "cards-1"]
    pod["spec"]["ephemeralContainers"] = [{"name": "debug", "image": "registry.test/shell:1"}]
    contained(context)
    enforce(api, lambda _pod: True)
    outcome, _ = judged(context, "tightened-policy")
    assert isinstance(outcome, Refused)
    assert "put into it later" in outcome.reason


def test_a_bare_pod_is_compared_with_a_plain_one_of_its_image(
    context: Context, api: Simulator, suspect: Json, asked: list[Json]
) -> None:
    """Nothing is restored: that its image alone is let pass shows that the policy is about the rest."""
    for plural in ("deployments", "replicasets"):
        for key in [key for key in api.objects if key[1] == plural]:
            del api.objects[key]
    enforce(api, privileged)
    assert judged(context, "tightened-policy")[0] == Applied()
    assert asked[-1]["spec"]["containers"] == [{"name": "image", "image": BAD}]
    enforce(api, lambda pod: BAD in json.dumps(pod))
    outcome, _ = judged(context, "tightened-policy")
    assert isinstance(outcome, Refused)
    assert "refused in bank as well" in outcome.reason


def test_no_right_to_try_it_is_neither(context: Context, api: Simulator, suspect: Json) -> None:
    enforce(api, lambda _pod: True, 'pods is forbidden: User "alice" cannot create resource "pods" in API group ""')
    with context.store.read() as session:
        incident = incidents.get(session, "INC-1")
        run = runs.of_incident(session, "INC-1")[-1]
    step = load(*find("recover")).step("hole")
    scene = Scene(context, Live(), incident, run, step, HoleParams(closed_by="tightened-policy"))
    ended = gates.hole(scene)
    assert isinstance(ended, Ended)
    assert isinstance(ended.outcome, Failed)
    assert ended.outcome.problem.code == "denied"


def test_a_person_who_has_taken_the_hole_on_opens_it(context: Context, api: Simulator, suspect: Json) -> None:
    accept_all(context)
    outcome, proof = judged(context, "tightened-policy")
    assert outcome == Applied()
    assert proof is not None
    assert proof.level is Level.NONE


def of_bad(pod: Json) -> bool:
    return any(one["image"] == BAD for one in pod["spec"]["containers"])


@pytest.mark.parametrize(
    ("refuses", "words"),
    [
        (of_bad, ""),
        (lambda _pod: False, "would be admitted"),
        (lambda _pod: True, f"a pod with the image {GOOD_IMAGE} is refused in bank as well"),
    ],
    ids=["blocked", "admitted", "everything is refused"],
)
def test_a_blocked_image_is_refused_where_another_is_not(
    context: Context, api: Simulator, suspect: Json, refuses: Callable[[Json], bool], words: str
) -> None:
    set_template(api, GOOD_IMAGE)
    enforce(api, refuses)
    outcome, proof = judged(context, "blocked-image")
    if not words:
        assert outcome == Applied()
        assert proof is not None
        assert proof.level is Level.PROVEN
        return
    assert isinstance(outcome, Refused)
    assert words in outcome.reason
