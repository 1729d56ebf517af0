"""``recover --dry-run`` as it is typed. What it says of each step: tests/response/test_foresee.py."""

from __future__ import annotations

import json

import pytest

from ringfence.errors import ExitCode
from ringfence.platform.kubernetes.resources import POD
from tests.cli.console import Console
from tests.simulator import Fault, Simulator
from tests.wire import Answer


@pytest.fixture
def declared(console: Console) -> Console:
    assert console("declare", "pod/cards-1", "-n", "bank", "--reason", "odd egress").code == 0
    return console


def test_a_shut_gate_is_a_refusal_and_nothing_is_written_down(declared: Console, api: Simulator) -> None:
    before = declared("timeline", "INC-1", "-o", "json").data
    written = len(api.writes)
    done = declared("recover", "INC-1", "--dry-run")
    assert done.code == ExitCode.REFUSED
    lines = done.out.splitlines()
    assert "nothing was changed, nothing was written down" in lines[0]
    assert lines[1].startswith("SHUT     clean         refused: suspects are left running: Pod bank/cards-1")
    assert lines[2].strip().startswith("next: ringfence eradicate INC-1")
    assert lines[3].startswith("-- it would end here")
    assert "LATER    watch         for 2 h" not in done.out
    assert declared("timeline", "INC-1", "-o", "json").data == before
    assert len(api.writes) == written


def test_the_options_of_a_recovery_count(declared: Console) -> None:
    assert "LATER    watch         for 120 min" in declared("recover", "INC-1", "--dry-run", "--watch", "2h").out
    assert declared("recover", "INC-1", "--dry-run", "--probe", "no-path").code == ExitCode.USAGE


def test_as_data_each_step_has_its_stand(declared: Console) -> None:
    done = declared("recover", "INC-1", "--dry-run", "-o", "json")
    assert done.code == ExitCode.REFUSED
    assert '"stand": "shut"' in done.out


def mend(api: Simulator) -> None:
    """The suspect is gone, and all that is left runs another image."""
    del api.objects["/api/v1", "pods", "bank", "cards-1"]
    template = {"spec": {"containers": [{"name": "cards", "image": "registry.test/cards:1.5"}]}}
    api.objects["/apis/apps/v1", "deployments", "bank", "cards"]["spec"]["template"] = template
    for pod in api.all(POD):
        pod["spec"]["containers"][0]["image"] = pod["status"]["containerStatuses"][0]["imageID"] = (
            "registry.test/cards:1.5"
        )


def test_a_cluster_that_cannot_be_read_is_neither_open_nor_shut(declared: Console, api: Simulator) -> None:
    mend(api)
    api.faults.append(Fault("GET", "/networkpolicies", 503))
    done = declared("recover", "INC-1", "--dry-run")
    assert done.code == ExitCode.INCOMPLETE
    assert done.out.splitlines()[1].startswith("UNKNOWN  clean")


@pytest.mark.parametrize(
    ("answer", "code"), [(Answer(500, b"no"), ExitCode.INCOMPLETE), (Answer(405), ExitCode.OK)], ids=["unknown", "no"]
)
def test_a_request_whose_result_is_not_known_keeps_it_from_being_done(
    declared: Console, api: Simulator, answer: Answer, code: ExitCode
) -> None:
    """Every gate is open: what may have happened, and nobody knows, is all that is left."""
    declared.settings["checkpoint"] = {"enabled": True, "seconds": 5}
    api.kubelet["cards"] = answer
    declared("node", "INC-1", "checkpoint")
    mend(api)
    for row in json.loads(declared("status", "INC-1", "-o", "json").out)["rows"]:
        if row["state"] in ("alive", "unseen"):
            assert declared("accept", "INC-1", row["path"], "--reason", "looked at").code == 0
    done = declared("recover", "INC-1", "--dry-run")
    assert "SHUT" not in done.out
    assert done.code == code
    assert ("1 requests have no known result" in done.err) is (code == ExitCode.INCOMPLETE)


def test_what_an_object_is_called_draws_nothing_on_the_screen(declared: Console, api: Simulator) -> None:
    pod = api.objects["/api/v1", "pods", "bank", "cards-1"]
    assert pod["kind"] == POD.kind
    pod["spec"]["nodeName"] = "\x1b[2Jnode"
    assert "\x1b" not in declared("recover", "INC-1", "--dry-run").out
