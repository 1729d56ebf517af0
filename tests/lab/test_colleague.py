"""A colleague who knows of nothing works on what is fenced: he is noticed within seconds, and the statement turns.

``ringfence watch`` runs as a process of its own, with the rendered rights alone; the colleague is the cluster's
administrator. What was seen is read with ``ringfence timeline``, as a user reads it.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from lab.kube import MERGE_PATCH, ApiError, Object, wait_until
from tests.lab.program import BIN, Office, Responder, Ringfence
from tests.lab.space import NETWORKING, Space

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]
Json = dict[str, Any]
FENCE = "ringfence.dev/fence"


class Watch:
    """``ringfence watch`` while the block lasts; ``said`` is what it printed so far."""

    def __init__(self, ringfence: Ringfence) -> None:
        self.said: list[str] = []
        self._process = subprocess.Popen(
            [sys.executable, "-u", str(BIN / "ringfence"), "watch"],
            env=ringfence.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def wait(self, words: str) -> None:
        wait_until(lambda: any(words in line for line in self.said), 60, f"{words!r} in {self.said}", interval=0.1)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.said.append(line)

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise
        finally:
            self._process.wait()
            self._reader.join(5)
            assert self._process.stdout is not None
            self._process.stdout.close()


@pytest.fixture
def pages() -> Iterator[tuple[str, list[bytes]]]:
    """A receiver of pages: its address, and what it got."""
    got: list[bytes] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"json://127.0.0.1:{server.server_address[1]}/hook", got
    server.shutdown()
    server.server_close()


class Night:
    """A Deployment one of whose pods was contained, and a watch that runs."""

    def __init__(
        self, space: Space, ringfence: Ringfence, watch: Watch, incident: str, pod: str, before: dict[str, str]
    ) -> None:
        self.space, self.ringfence, self.watch = space, ringfence, watch
        self.incident, self.pod, self.before = incident, pod, before
        self.fence = space.fence_of(pod)

    @property
    def policy(self) -> str:
        return f"ringfence-{self.fence}"

    def noticed(self, what: str, kind: str) -> Json:
        """The event, as soon as it is on the timeline; and how long that took is in the error otherwise."""
        began = time.monotonic()
        found: list[Json] = []

        def there() -> bool:
            found[:] = [
                event
                for event in self.ringfence.events(self.incident, "fence.changed")
                if (event["what"], event["ref"]["kind"]) == (what, kind)
            ]
            return bool(found)

        wait_until(there, 60, f"{kind} {what} on the timeline; the watch said {self.watch.said}", interval=0.2)
        assert time.monotonic() - began < 60
        return found[0]

    def row(self, path: str, state: str) -> None:
        """Until the kept statement has it so: without looking again ourselves, so that it is the watch that did."""
        wait_until(
            lambda: any(
                (event["path"], event["after"]) == (path, state)
                for event in self.ringfence.events(self.incident, "access.turned")
            ),
            60,
            f"{path} to be {state}",
            interval=0.2,
        )


@pytest.fixture
def night(
    space: Space, tmp_path: Path, responders: tuple[Responder, Responder], pages: tuple[str, list[bytes]]
) -> Iterator[Night]:
    ringfence = Ringfence(space.lab, tmp_path, responders[0].kubeconfig)
    ringfence.configure("audit", log=str(space.lab.audit_log))
    ringfence.configure("notify", to=[{"name": "pager", "url": pages[0], "for": ["fence-changed", "row-turned"]}])
    space.workload("cards", 2, idle=True)
    pod = space.wait_pods(2, ready=False, app="cards")[0]
    before = space.pod(pod)["metadata"]["labels"]
    view = ringfence.json("contain", f"pod/{pod}", "-n", space.name, "--reason", "odd traffic", "--accept-outage")
    incident = view["incident"]["id"]
    with ExitStack() as stack:
        watch = stack.enter_context(Watch(ringfence))
        watch.wait("watched")
        yield Night(space, ringfence, watch, incident, pod, before)


def patched(space: Space, kind: str, name: str, body: Object, api_version: str = "apps/v1") -> None:
    space.kube.patch(api_version, kind, name, space.name, body=body, content_type=MERGE_PATCH)


def test_who_opened_the_fence_for_a_moment_while_nobody_watched_is_told_of_afterwards(
    space: Space, tmp_path: Path, responders: tuple[Responder, Responder]
) -> None:
    """The label off and on again, a rule into the policy and out again: everything is as it was, and was not."""
    ringfence = Ringfence(space.lab, tmp_path, responders[0].kubeconfig)
    space.workload("cards", 2, idle=True)
    pod = space.wait_pods(2, ready=False, app="cards")[0]
    view = ringfence.json("contain", f"pod/{pod}", "-n", space.name, "--reason", "odd traffic", "--accept-outage")
    incident = view["incident"]["id"]
    fence = space.fence_of(pod)
    with Watch(ringfence) as watch:
        watch.wait("watched")
    assert ringfence.events(incident, "fence.changed") == []
    policy = f"ringfence-{fence}"
    for label in (None, fence):
        patched(space, "Pod", pod, {"metadata": {"labels": {FENCE: label}}}, "v1")
    for rules in ([{}], None):
        patched(space, "NetworkPolicy", policy, {"spec": {"ingress": rules}}, NETWORKING)
    for _ in range(2):
        with Watch(ringfence) as watch:
            watch.wait("watched")
            wait_until(
                lambda: len(ringfence.events(incident, "fence.changed")) >= 2, 60, f"both: {watch.said}", interval=0.2
            )
    told = {event["ref"]["kind"]: event for event in ringfence.events(incident, "fence.changed")}
    assert told.keys() == {"Pod", "NetworkPolicy"}
    assert len(ringfence.events(incident, "fence.changed")) == 2, "each is told once"
    assert {event["detail"] for event in told.values()} == {"and changed back, while nobody watched"}
    assert told["Pod"]["how_known"].startswith("managedFields")
    assert space.fence_of(pod) == fence


def test_who_deletes_the_fenced_pod_is_named_and_paged(night: Night, pages: tuple[str, list[bytes]]) -> None:
    night.space.kube.delete("v1", "Pod", night.pod, night.space.name)
    event = night.noticed("was deleted", "Pod")
    assert event["seen_by"] == "watch"
    assert event["who"]
    assert event["how_known"].startswith("audit log: delete")
    night.row("network.egress", "dead")
    wait_until(lambda: any(night.pod.encode() in page for page in pages[1]), 60, "a page", interval=0.2)


def test_a_deleted_quarantine_policy_is_put_back(night: Night) -> None:
    night.space.kube.delete(NETWORKING, "NetworkPolicy", night.policy, night.space.name)
    night.noticed("was deleted", "NetworkPolicy")
    wait_until(lambda: night.policy in night.space.policies(), 60, "the policy to be back", interval=0.2)
    wait_until(
        lambda: bool(night.ringfence.events(night.incident, "fence.restored")), 60, "that it is said", interval=0.2
    )
    steps = [event["step"] for event in night.ringfence.events(night.incident, "step.finished")]
    assert "put-back/1" in steps
    night.ringfence.ok("release", night.incident)
    assert night.space.policies().keys() == {"allow-dns"}


def test_a_label_that_was_taken_off_is_put_back_and_the_pod_not_adopted_again(night: Night) -> None:
    """As somebody would who wants his pod back: the fence label off, the old labels on."""
    held = night.space.pod(night.pod)["metadata"]["labels"]
    patched(night.space, "Pod", night.pod, {"metadata": {"labels": {**night.before, FENCE: None}}}, "v1")
    event = night.noticed("was changed", "Pod")
    assert event["change"] == "cut/1:detach"
    wait_until(lambda: night.space.fence_of(night.pod) == night.fence, 60, "the fence label", interval=0.2)

    def as_before() -> bool:
        meta = night.space.pod(night.pod)["metadata"]
        return meta["labels"] == held and not meta.get("ownerReferences")

    wait_until(as_before, 60, "the pod to be out of its controller", interval=0.2)


@pytest.mark.parametrize(
    ("body", "what"),
    [
        ({"spec": {"replicas": 3}}, "was scaled"),
        (
            {"spec": {"template": {"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": "tonight"}}}}},
            "was restarted",
        ),
    ],
)
def test_who_scales_or_restarts_what_the_pod_came_from_is_noticed(night: Night, body: Object, what: str) -> None:
    patched(night.space, "Deployment", "cards", body)
    event = night.noticed(what, "Deployment")
    assert event["who"]
    assert event["ref"]["name"] == "cards"


def test_an_opened_policy_turns_the_statement(night: Night) -> None:
    """A policy that is new, and none of ours: it is no deed against the fence, and opens the pod all the same."""
    night.space.policy("open-all", {"podSelector": {}, "policyTypes": ["Egress"], "egress": [{}]})
    night.row("network.egress", "alive")


def test_an_edited_quarantine_policy_is_told_and_turns_the_statement(night: Night) -> None:
    patched(night.space, "NetworkPolicy", night.policy, {"spec": {"egress": [{}]}}, NETWORKING)
    event = night.noticed("was changed", "NetworkPolicy")
    assert event["ref"]["name"] == night.policy
    night.row("network.egress", "alive")


# --- refused beforehand ----------------------------------------------------------------
@pytest.fixture(scope="module")
def guard_responder(office: Office) -> Responder:
    """Somebody where the guard is switched on."""
    return office.appoint("di", guard=True)


def test_a_guard_refuses_and_says_whom_to_call(space: Space, tmp_path: Path, guard_responder: Responder) -> None:
    ringfence = Ringfence(space.lab, tmp_path, guard_responder.kubeconfig)
    ringfence.configure("watch", guard=True)
    ringfence.settings["contacts"] = [{"role": "incident commander", "name": "Ada", "reach": "extension 4711"}]
    space.workload("cards", 2, idle=True)
    fenced, other = space.wait_pods(2, ready=False, app="cards")
    view = ringfence.json("contain", f"pod/{fenced}", "-n", space.name, "--reason", "odd", "--accept-outage")
    incident = view["incident"]["id"]
    policy = f"ringfence-{space.fence_of(fenced)}"
    kind, api = "ValidatingAdmissionPolicy", "admissionregistration.k8s.io/v1"
    with ExitStack() as stack:
        for one in (f"{kind}Binding", kind):  # it lies in no namespace that would take it along when the test fails
            stack.callback(space.kube.delete, api, one, policy)
        watch = stack.enter_context(Watch(ringfence))
        watch.wait("guard: ")
        assert space.kube.find(api, kind, policy) is not None, watch.said
        words: list[str] = []

        def refused() -> bool:
            """A new admission policy holds after a moment, so it is asked for as a dry run first."""
            path = f"/api/v1/namespaces/{space.name}/pods/{fenced}"
            try:
                space.kube.request("DELETE", path, {"apiVersion": "v1", "kind": "DeleteOptions", "dryRun": ["All"]})
            except ApiError as error:
                words.append(str(error))
                return True
            return False

        wait_until(refused, 60, "the guard to hold", interval=0.2)
        assert incident in words[0]
        assert "incident commander: Ada, extension 4711" in words[0]
        for ask in (
            lambda: space.kube.delete("v1", "Pod", fenced, space.name),
            lambda: space.kube.request(
                "POST",
                f"/api/v1/namespaces/{space.name}/pods/{fenced}/eviction",
                {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": fenced, "namespace": space.name}},
            ),
            lambda: patched(space, "Pod", fenced, {"metadata": {"labels": {FENCE: None}}}, "v1"),
            lambda: patched(space, "Pod", fenced, {"metadata": {"labels": {"app": "cards", "new": "one"}}}, "v1"),
            lambda: space.kube.delete(NETWORKING, "NetworkPolicy", policy, space.name),
            lambda: patched(space, "NetworkPolicy", policy, {"spec": {"egress": [{}]}}, NETWORKING),
        ):
            with pytest.raises(ApiError, match=incident):
                ask()
        # What is not fenced is anybody's, and what changes no label of the pod is too.
        patched(space, "Pod", fenced, {"metadata": {"annotations": {"note": "seen"}}}, "v1")
        patched(space, "NetworkPolicy", "allow-dns", {"metadata": {"labels": {"note": "seen"}}}, NETWORKING)
        space.kube.delete("v1", "Pod", other, space.name)
        wait_until(lambda: space.is_gone(other), 60, "the other pod to be gone", interval=0.2)
        assert ringfence.events(incident, "fence.changed") == []
        # The responder is let through, and the guard goes with the fence.
        assert ringfence.json("release", incident)["outcome"]["kind"] == "applied"
        assert space.is_gone(fenced)
        for one in (kind, f"{kind}Binding"):
            assert space.kube.find(api, one, policy) is None, watch.said
        assert ringfence.events(incident, "fence.changed") == []
