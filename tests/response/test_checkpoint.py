"""``node INC checkpoint``: an archive is evidence by reference; everything else is said, and is no success.

The kubelet is a fake here, as no node of the lab has CRIU; what a real one answers without it: tests/lab.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ringfence.errors import EvidenceError, Guarded, TargetError, VaultError
from ringfence.evidence.claims import record_of
from ringfence.evidence.differences import Kind
from ringfence.evidence.reconcile import compare
from ringfence.evidence.sealing import Sealer
from ringfence.model.evidence import Collected, EvidenceItem
from ringfence.model.incident import Incident
from ringfence.model.outcome import Applied, Failed, Refused, Unknown
from ringfence.model.proof import Level
from ringfence.model.timeline import PlanMade
from ringfence.platform.kubernetes.audit_event import event_of
from ringfence.response import checkpoint, closing, steps
from ringfence.response.checkpoint import Checkpointed
from ringfence.response.context import Context
from ringfence.response.undo import undo_step
from ringfence.store import evidence, incidents, timeline
from tests.response.steps_of import changes, contained, types
from tests.simulator import Fault, Simulator
from tests.small_bank import add_pod, pod_body
from tests.wire import Answer

pytestmark = pytest.mark.slow  # whole responses, one after the other

ARCHIVE = "/var/lib/kubelet/checkpoints/checkpoint-cards-1_bank-cards-2026-11-30T23:00:00Z.tar"
MADE = Answer(body=json.dumps({"items": [ARCHIVE]}).encode())
NO_CRIU = Answer(
    500,
    b"checkpointing of bank/cards-1/cards failed (rpc error: code = Unimplemented desc = method CheckpointContainer "
    b"not implemented)",
    {"Content-Type": "text/plain"},
)


@pytest.fixture
def here(context: Context, with_policy: Callable[..., Context]) -> Context:
    """An incident about cards-1; checkpoints are on."""
    contained(context)
    return with_policy(checkpoint_seconds=5.0)


def incident_of(context: Context) -> Incident:
    with context.store.read() as session:
        return incidents.get(session, "INC-1")


def asked(context: Context, only: str = "") -> Checkpointed:
    (done,) = checkpoint.checkpoint_all(context, incident_of(context), only=only, say=lambda _words: None)
    return done


def sealed(context: Context) -> dict[str, EvidenceItem]:
    """The items of the newest seal."""
    with context.store.read() as session:
        newest = evidence.seals(session, "INC-1")[-1]
        return {item.id: item for item in evidence.items(session, "INC-1", evidence.capture_of(session, newest.id))}


def code_of(done: Checkpointed) -> str:
    outcome = done.containers[0].outcome
    assert isinstance(outcome, Failed | Unknown)
    return outcome.problem.code


def test_off_by_default_and_then_nothing_is_asked_for(context: Context, api: Simulator) -> None:
    contained(context)
    before, written = types(context), len(api.writes)
    with pytest.raises(Guarded, match="off in the configuration"):
        asked(context)
    assert (types(context), len(api.writes)) == (before, written)


def test_an_archive_is_journalled_and_sealed_by_reference(here: Context, api: Simulator) -> None:
    api.kubelet["cards"] = MADE
    done = asked(here)
    assert (done.outcome, done.containers[0].archives) == (Applied(), (ARCHIVE,))
    assert done.proof is not None
    assert done.proof.level is Level.OBSERVED
    (request,) = [one for one in api.writes if "/checkpoint/" in one.path]
    assert request.path == "/api/v1/nodes/node-1/proxy/checkpoint/bank/cards-1/cards"
    record = changes(here)["node-checkpoint/1:checkpoint-cards"]
    assert request.headers["audit-id"] == record.audit_id
    assert record.change.ref.kind == "Node"
    item = sealed(here)["checkpoint/cards"]
    assert (item.result, item.required) == (Collected.COLLECTED, False)
    assert item.blob is not None
    assert item.blob.raw_size == len(MADE.body)
    assert item.changes_made == (f"{ARCHIVE} on node node-1: the memory of cards",)


def test_the_intent_stands_before_the_kubelet_is_asked(here: Context, api: Simulator) -> None:
    """Who dies in between must know of the archive."""
    seen: list[str] = []
    api.kubelet["cards"] = MADE
    real = api._answer

    def looked(request: Any) -> Answer:
        if "/checkpoint/" in request.path:
            seen.extend(types(here)[-1:])
        return real(request)

    api._answer = looked  # type: ignore[method-assign]
    asked(here)
    assert seen == ["change.intended"]


def test_one_container_that_cannot_stops_no_other(here: Context, api: Simulator) -> None:
    two = pod_body()
    two["spec"]["containers"].append({"name": "side", "image": "registry.test/side:1"})
    two["spec"]["containers"].append({"name": "late", "image": "registry.test/late:1"})
    two["status"]["containerStatuses"].append({"name": "side", "imageID": "x", "state": {"running": {}}})
    two["status"]["containerStatuses"].append({"name": "late", "imageID": "", "state": {"waiting": {}}})
    pod: Any = api.objects["/api/v1", "pods", "bank", "cards-1"]
    pod.update(spec=two["spec"], status=two["status"])
    api.kubelet.update(cards=NO_CRIU, side=MADE)
    done = asked(here)
    assert [(one.container, bool(one.archives)) for one in done.containers] == [("cards", False), ("side", True)]
    assert isinstance(done.outcome, Failed)
    items = sealed(here)
    assert items["checkpoint/cards"].result is Collected.FAILED
    assert "checkpointing of bank/cards-1/cards failed" in items["checkpoint/cards"].reason
    assert items["checkpoint/side"].result is Collected.COLLECTED


REFUSED_KUBELET = b"Forbidden (user=apiserver-kubelet-client, verb=create, resource=nodes, subresource=[checkpoint])"
NO_CONTAINER = b"container cards does not exist"


@pytest.mark.parametrize(
    ("answer", "code", "words"),
    [
        (NO_CRIU, "checkpoint-unavailable", "the container runtime of node-1 makes no checkpoints"),
        (Answer(404, b"404: Page Not Found"), "checkpoint-unavailable", "offers no checkpoints"),
        (Answer(404, NO_CONTAINER), "checkpoint-unavailable", "does not know the container"),
        (Answer(403, REFUSED_KUBELET), "checkpoint-unavailable", "makes no checkpoints for the API server"),
        (Answer(501, b""), "checkpoint-unavailable", "offers no checkpoints"),
        (Answer(405, b""), "checkpoint-unavailable", "offers no checkpoints"),
        (Answer(401, b"Unauthorized"), "denied", "not allowed"),
    ],
    ids=["no CRIU", "gate off", "no container", "kubelet forbids", "501", "405", "401"],
)
def test_what_a_node_cannot_do_is_said_in_plain_words(
    here: Context, api: Simulator, answer: Answer, code: str, words: str
) -> None:
    api.kubelet["cards"] = answer
    done = asked(here)
    outcome = done.containers[0].outcome
    assert isinstance(outcome, Failed)
    assert code_of(done) == code
    assert words in outcome.problem.what
    assert done.proof is not None
    assert done.proof.level is Level.NONE
    assert sealed(here)["checkpoint/cards"].result in (Collected.FAILED, Collected.DENIED)


def test_who_lacks_the_right_is_told_how_it_is_rendered(here: Context, api: Simulator) -> None:
    words = 'nodes "node-1" is forbidden: User "alice" cannot create resource "nodes/proxy" in API group ""'
    api.faults.append(Fault("POST", "/checkpoint/bank/cards-1/cards", 403, words))
    done = asked(here)
    outcome = done.containers[0].outcome
    assert isinstance(outcome, Failed)
    assert outcome.problem.code == "denied"
    assert "ringfence rbac --checkpoint" in outcome.problem.next_step
    assert sealed(here)["checkpoint/cards"].result is Collected.DENIED


def test_an_api_server_that_does_not_reach_the_kubelet_has_asked_nobody(here: Context, api: Simulator) -> None:
    words = "error trying to reach service: dial tcp 10.0.0.1:10250: connect: connection refused"
    api.faults.append(Fault("POST", "/checkpoint/bank/cards-1/cards", 503, words))
    assert code_of(asked(here)) == "not-sent"


@pytest.mark.parametrize(
    "answer",
    [
        Answer(sends=0),
        Answer(503, b"<html>no healthy upstream"),
        Answer(200, b"<title>Sign in</title>"),
        Answer(200, b'{"items": []}'),
        Answer(200, b'{"items": ["not-a-path"]}'),
        Answer(200, b'{"kind": "Status", "status": "Success"}'),
        Answer(403, b"<html>Forbidden by policy"),
        Answer(404, b"404 page not found"),
        Answer(409, b"<html>Conflict"),
        Answer(422, b"<html>Unprocessable"),
    ],
    ids=["lost", "503", "login page", "no item", "no path", "a Status", "403 page", "404 page", "409", "422"],
)
def test_an_answer_that_names_no_archive_is_no_success_and_no_failure(
    here: Context, api: Simulator, answer: Answer
) -> None:
    """There may be an archive. That the node itself still exists must not pass for one."""
    api.kubelet["cards"] = answer
    done = asked(here)
    assert isinstance(done.containers[0].outcome, Unknown)
    assert sealed(here)["checkpoint/cards"].result is Collected.FAILED
    before = types(here)
    steps.reconcile(here, incident_of(here))
    assert types(here) == before, "nothing is news each time that somebody looks"


def test_admission_that_refuses_has_asked_no_kubelet(here: Context, api: Simulator) -> None:
    words = 'admission webhook "deny.test" denied the request: no proxying'
    api.faults.append(Fault("POST", "/checkpoint/bank/cards-1/cards", 403, words))
    done = asked(here)
    assert isinstance(done.containers[0].outcome, Failed)
    assert code_of(done) == "invalid"


@pytest.mark.parametrize(
    ("first", "words"),
    [
        (MADE, "node-checkpoint/1 has written an archive of it, and this is another"),
        (Answer(sends=0), "node-checkpoint/1 may have written an archive of it, and this is another"),
        (NO_CRIU, ""),
    ],
    ids=["written", "not known", "none"],
)
def test_a_second_archive_is_told_in_the_plan_and_in_the_answer(
    here: Context, api: Simulator, first: Answer, words: str
) -> None:
    api.kubelet["cards"] = first
    asked(here)
    api.kubelet["cards"] = MADE
    done = asked(here)
    assert done.containers[0].before == ((words,) if words else ())
    with here.store.read() as session:
        events = [entry.event for entry in timeline.read(session, "INC-1")]
    (plan,) = [event for event in events if isinstance(event, PlanMade) and event.step == done.step]
    assert [one for one in plan.caveats if "this is another" in one] == (
        [f"checkpoint-cards: {words}"] if words else []
    )


@pytest.mark.parametrize(("answer", "archives"), [(MADE, (ARCHIVE,)), (NO_CRIU, ())], ids=["archive", "none"])
def test_what_was_recorded_and_not_sealed_is_sealed_and_nobody_is_asked_again(
    here: Context, api: Simulator, monkeypatch: pytest.MonkeyPatch, answer: Answer, archives: tuple[str, ...]
) -> None:
    """A vault that is full, or a crash, in between: another archive would be the price of typing the command again."""

    def full(*_arguments: Any) -> Any:
        raise VaultError("the vault is full")

    api.kubelet["cards"] = answer
    with monkeypatch.context() as broken:
        broken.setattr(Sealer, "_sealed", full)
        first = asked(here)
    assert (first.seal, first.unsealed) == ("", "the vault is full")
    written = len(api.writes)
    done = asked(here)
    assert (done.step, done.outcome, done.proof) == (first.step, first.outcome, first.proof)
    assert [one.archives for one in done.containers] == [archives]
    assert len(api.writes) == written
    assert done.seal
    assert bool(sealed(here)["checkpoint/cards"].blob) is bool(archives)
    assert asked(here).step == "node-checkpoint/2", "what is sealed is over"


def test_one_that_can_never_be_sealed_does_not_stand_in_the_way(
    here: Context, api: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Sealer._sealed

    def never_the_first(self: Sealer, incident: Incident, subject: Any, capture: int, actor: str) -> Any:
        if capture == 2:
            raise EvidenceError("the evidence cannot be sealed as it is")
        return real(self, incident, subject, capture, actor)

    api.kubelet["cards"] = MADE
    monkeypatch.setattr(Sealer, "_sealed", never_the_first)
    assert asked(here).unsealed
    said: list[str] = []
    (done,) = checkpoint.checkpoint_all(here, incident_of(here), only="", say=said.append)
    assert [words for words in said if "node-checkpoint/1 cannot be sealed" in words]
    assert done.step == "node-checkpoint/2"
    assert done.seal
    assert done.containers[0].before == ("node-checkpoint/1 has written an archive of it, and this is another",)


def audit_line(context: Context, *, code: int = 200, path: str = "", **more: Any) -> dict[str, Any]:
    record = changes(context)["node-checkpoint/1:checkpoint-cards"]
    at = record.intended_at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return {
        "kind": "Event",
        "apiVersion": "audit.k8s.io/v1",
        "level": "Metadata",
        "auditID": record.audit_id,
        "stage": "ResponseComplete",
        "requestURI": path or "/api/v1/nodes/node-1/proxy/checkpoint/bank/cards-1/cards?timeout=4",
        "verb": "create",
        "user": {"username": "alice"},
        "objectRef": {"resource": "nodes", "name": "node-1", "subresource": "proxy", "apiVersion": "v1"},
        "responseStatus": {"code": code},
        "requestReceivedTimestamp": at,
        "stageTimestamp": at,
        **more,
    }


@pytest.mark.parametrize(("code", "expected"), [(200, Applied), (403, Failed), (500, Unknown)])
def test_the_audit_log_says_what_became_of_a_lost_answer(
    here: Context, api: Simulator, with_policy: Callable[..., Context], tmp_path: Path, code: int, expected: type
) -> None:
    api.kubelet["cards"] = Answer(sends=0)
    asked(here)
    log = tmp_path / "audit.log"
    log.write_text(json.dumps(audit_line(here, code=code)) + "\n")
    steps.reconcile(with_policy(audit_log=log), incident_of(here))
    assert isinstance(changes(here)["node-checkpoint/1:checkpoint-cards"].outcome, expected)


@pytest.mark.parametrize(
    ("path", "differs"),
    [
        ("", False),
        ("/api/v1/nodes/node-1/proxy/checkpoint/bank/ledger-1/ledger", True),
        ("/api/v1/nodes/node-1/proxy/run/bank/cards-1/cards?cmd=id", True),
    ],
    ids=["itself", "another pod", "a command in the pod"],
)
def test_the_audit_log_is_compared_to_the_very_container(
    here: Context, api: Simulator, path: str, differs: bool
) -> None:
    """A node's proxy leads anywhere on it: the node's name alone would match a command in any pod."""
    api.kubelet["cards"] = MADE
    asked(here)
    with here.store.read() as session:
        record = record_of(session, incidents.get(session, "INC-1"))
    event = event_of(json.dumps(audit_line(here, path=path)).encode())
    found = compare(record, [event], lambda: [])
    about = [one for one in found.findings if "checkpoint-cards" in one.what]
    assert [one.kind for one in about] == ([Kind.DIFFERENT] if differs else [])


def test_undo_says_that_nothing_takes_an_archive_away(here: Context, api: Simulator) -> None:
    api.kubelet["cards"] = MADE
    step = asked(here).step
    written = len(api.writes)
    ((_, outcome),) = undo_step(here, incident_of(here), step)
    assert isinstance(outcome, Refused)
    assert "lies on the node" in outcome.reason
    assert len(api.writes) == written


def test_an_archive_is_named_when_the_incident_is_closed(here: Context, api: Simulator) -> None:
    api.kubelet["cards"] = NO_CRIU
    asked(here)
    assert not [one for one in closing.still_in_force(here, incident_of(here)) if "archive" in one]
    api.kubelet["cards"] = MADE
    asked(here)
    (words,) = [one for one in closing.still_in_force(here, incident_of(here)) if "archive" in one]
    assert words.startswith("node-checkpoint/2: the kubelet of node-1 writes the memory of container cards")
    assert words.endswith("where its secrets lie")


def test_an_archive_that_may_be_there_is_named_when_the_incident_is_closed(here: Context, api: Simulator) -> None:
    api.kubelet["cards"] = Answer(sends=0)
    asked(here)
    (words,) = [one for one in closing.still_in_force(here, incident_of(here)) if "archive" in one]
    assert "may lie" in words


def test_a_pod_that_is_another_by_now_is_not_asked_for(here: Context, api: Simulator) -> None:
    del api.objects["/api/v1", "pods", "bank", "cards-1"]
    add_pod(api, "cards-1")
    written = len(api.writes)
    done = asked(here)
    assert isinstance(done.outcome, Failed)
    assert done.seal == ""
    assert len(api.writes) == written


def test_a_protected_pod_is_refused(here: Context, api: Simulator) -> None:
    pod: Any = api.objects["/api/v1", "pods", "bank", "cards-1"]
    pod["metadata"]["labels"]["ringfence.dev/protected"] = "yes"
    api.kubelet["cards"] = MADE
    written = len(api.writes)
    assert isinstance(asked(here).outcome, Refused)
    assert len(api.writes) == written


def test_a_pod_that_runs_nothing_is_refused_and_a_name_that_is_none_is_no_target(here: Context, api: Simulator) -> None:
    pod: Any = api.objects["/api/v1", "pods", "bank", "cards-1"]
    pod["status"]["containerStatuses"][0]["state"] = {"terminated": {}}
    assert isinstance(asked(here).outcome, Refused)
    with pytest.raises(TargetError):
        asked(here, "cards-9")
