"""The lab comes up, heals, shares nothing with another lab, and leaves nothing behind.

Everything here runs on labs of its own (``rf-test``, ``rf-test-two``), never on the default one.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab import controlplane, images, layout, lifecycle, network, node, processes, programs
from lab.__main__ import main
from lab.layout import Lab
from tests.lab.conftest import REPOSITORY, run_lab

pytestmark = [pytest.mark.lab, pytest.mark.usefixtures("root")]

NAME = "rf-test"
OTHER_NAME = "rf-test-two"
POD = "sleeper"


def up(name: str = NAME) -> Lab:
    run_lab("up", "--bare", "--name", name)
    lab = layout.find(name)
    assert lab is not None
    return lab


@pytest.fixture(scope="module")
def shared() -> Iterator[Lab]:
    """One bare lab for the tests that leave it whole, with a pod that runs on it."""
    run_lab("down", "--name", NAME)
    lab = up()
    run_pod(lab)
    yield lab
    run_lab("down", "--name", NAME)


@pytest.fixture
def lab_of_its_own() -> Iterator[Lab]:
    """A fresh lab for a test that breaks it."""
    run_lab("down", "--name", OTHER_NAME)
    yield up(OTHER_NAME)
    run_lab("down", "--name", OTHER_NAME)


def kubectl(lab: Lab, *arguments: str, text: str | None = None) -> str:
    command = [str(programs.path("kubectl")), f"--kubeconfig={lab.kubeconfig}", *arguments]
    result = subprocess.run(command, input=text, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    return result.stdout


def run_pod(lab: Lab) -> None:
    images.ensure(lab, [images.PAUSE, images.PYTHON])
    script = "import signal, time; signal.signal(15, lambda *_: exit()); print('awake', flush=True); time.sleep(9999)"
    container = {
        "name": "main",
        "image": images.PYTHON,
        "imagePullPolicy": "Never",
        "command": ["/usr/bin/python3", "-c", script],
    }
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": POD}, "spec": {"containers": [container]}}
    kubectl(lab, "apply", "-f", "-", text=json.dumps(pod))
    kubectl(lab, "wait", "--for=condition=Ready", f"pod/{POD}", "--timeout=60s")


def pod_status(lab: Lab) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(kubectl(lab, "get", "pod", POD, "-o", "json"))
    status: dict[str, Any] = content["status"]["containerStatuses"][0]
    return status


def wait_for_restart(lab: Lab) -> None:
    deadline = time.monotonic() + 60
    while "running" not in pod_status(lab)["state"] or pod_status(lab)["restartCount"] == 0:
        assert time.monotonic() < deadline, pod_status(lab)
        time.sleep(0.5)


def parts(lab: Lab) -> dict[str, int | None]:
    found: dict[str, int | None] = lifecycle.status(lab)["parts"]
    return found


def group_processes(lab: Lab) -> list[int]:
    """The processes of all pods: those in the lab's cgroup."""
    tops = Path("/sys/fs/cgroup").glob(f"**{lab.cgroup}")
    return [int(pid) for top in tops for file in top.rglob("cgroup.procs") for pid in file.read_text().split()]


def traces(lab: Lab) -> dict[str, list[str]]:
    """Everything on the machine that bears the lab's mark."""
    mark = str(lab.state)
    commands = {}
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            commands[file.parent.name] = file.read_text(errors="replace").replace("\0", " ")
        except OSError:
            continue
    own = str(os.getpid())
    links = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout.splitlines()
    routes = subprocess.run(["ip", "-o", "route"], capture_output=True, text=True, check=True).stdout.splitlines()
    mounts = Path("/proc/self/mounts").read_text().splitlines()
    found = {
        "processes": [text for pid, text in commands.items() if f"{mark}/" in text and pid != own],
        "inside": [str(pid) for pid in network.processes_in(lab)],
        "mounts": [line for line in mounts if mark in line or f"/run/netns/{lab.name}-" in line],
        "namespaces": [str(path) for path in network.NAMESPACES.glob(f"{lab.name}-*")],
        "links": [line for line in links if f" {lab.link('')}" in line],
        "routes": [line for line in routes if lab.link("node") in line],
        "cgroups": [str(path) for path in Path("/sys/fs/cgroup").glob(f"**{lab.cgroup}")],
        "files": [str(lab.state)] if lab.state.exists() else [],
    }
    return {kind: values for kind, values in found.items() if values}


def test_second_up_starts_nothing_again(shared: Lab) -> None:
    before = parts(shared)
    container = pod_status(shared)["containerID"]
    up()
    assert parts(shared) == before
    assert pod_status(shared)["containerID"] == container


def test_status_names_every_part_and_says_that_all_is_well(shared: Lab) -> None:
    status = json.loads(run_lab("status", "--name", NAME, "-o", "json").stdout)
    assert set(status["parts"]) == {*controlplane.DAEMONS, *node.PROGRAMS}
    assert all(status["parts"].values())
    assert status["api_ready"]
    assert status["node_ready"]
    assert status["pods_ready"] == status["pods"] == 1


def test_logs_and_exec_pass_through_the_api_server(shared: Lab) -> None:
    assert "awake" in kubectl(shared, "logs", POD)
    assert kubectl(shared, "exec", POD, "--", "/usr/bin/python3", "-c", "print(6 * 7)").strip() == "42"


def test_the_node_sees_only_its_own_processes(shared: Lab) -> None:
    kubelet = node.running_programs(shared)["kubelet"]
    command = ["nsenter", f"--target={kubelet}", "--pid", "--mount", "ls", "/proc"]
    visible = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert 3 < sum(name.isdigit() for name in visible) < 40
    host = {link.name for link in Path("/proc").glob("[0-9]*")}
    assert len(host) > sum(name.isdigit() for name in visible)


def test_the_machines_kernel_settings_stay_its_own(shared: Lab) -> None:
    kubelet = node.running_programs(shared)["kubelet"]
    for file, wanted in node.KERNEL_TUNABLES.items():
        shown = subprocess.run(
            ["nsenter", f"--target={kubelet}", "--mount", "cat", file], capture_output=True, text=True
        )
        assert shown.stdout.strip() == wanted
    log = processes.log_path(shared, "kubelet").read_text()
    assert "Updating kernel flag" not in log


def test_the_audit_log_has_the_callers_audit_id_and_never_a_secret(shared: Lab) -> None:
    kubectl(shared, "create", "secret", "generic", "vault", "--from-literal=pin=s3cr3t-4711")
    lines = shared.audit_log.read_text()
    assert '"resource":"secrets"' in lines
    assert "czNjcjN0LTQ3MTE=" not in lines
    assert "s3cr3t-4711" not in lines


@pytest.mark.parametrize("part", [*node.PROGRAMS, *controlplane.DAEMONS])
def test_up_heals_a_killed_part_and_pods_live_on(shared: Lab, part: str) -> None:
    container = pod_status(shared)["containerID"]
    pid = parts(shared)[part]
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    up()
    status = lifecycle.status(shared)
    assert all(status["parts"].values()), status
    assert status["parts"][part] != pid
    assert status["api_ready"]
    assert status["node_ready"]
    assert pod_status(shared)["containerID"] == container
    assert pod_status(shared)["restartCount"] == 0


def test_up_heals_a_node_whose_first_process_was_killed(shared: Lab) -> None:
    parent = processes.running(shared, node.INIT)
    assert parent is not None
    os.kill(parent, signal.SIGKILL)
    up()
    wait_for_restart(shared)
    assert "awake" in kubectl(shared, "logs", POD)


def test_two_labs_share_nothing(shared: Lab, lab_of_its_own: Lab) -> None:
    run_pod(lab_of_its_own)
    before = parts(shared)
    for one in (shared, lab_of_its_own):
        assert kubectl(one, "get", "nodes", "-o", "name").split() == [f"node/{one.node}"]
        assert pod_status(one)["ready"]
    pids = {pid for one in (shared, lab_of_its_own) for pid in parts(one).values()}
    assert len(pids) == 2 * len(before)
    run_lab("down", "--name", OTHER_NAME)
    assert parts(shared) == before
    assert "awake" in kubectl(shared, "logs", POD)
    assert lifecycle.status(shared)["node_ready"]


def test_down_leaves_nothing_even_of_a_frozen_pod(lab_of_its_own: Lab) -> None:
    run_pod(lab_of_its_own)
    freeze(lab_of_its_own)
    before = traces(lab_of_its_own)
    assert set(before) == {"processes", "inside", "mounts", "namespaces", "links", "routes", "cgroups", "files"}
    pids = [*network.processes_in(lab_of_its_own), *group_processes(lab_of_its_own)]
    ages = {pid: processes.start_time(pid) for pid in pids}
    run_lab("down", "--name", OTHER_NAME)
    assert traces(lab_of_its_own) == {}
    assert [pid for pid, age in ages.items() if age is not None and processes.start_time(pid) == age] == []


def freeze(lab: Lab) -> None:
    frozen = 0
    for top in Path("/sys/fs/cgroup").glob(f"**{lab.cgroup}/kubepods"):
        for file, text in (("freezer.state", "FROZEN"), ("cgroup.freeze", "1")):
            if (top / file).exists():
                (top / file).write_text(text)
                frozen += 1
    assert frozen


def test_up_heals_a_killed_node_whose_pods_were_frozen(lab_of_its_own: Lab) -> None:
    run_pod(lab_of_its_own)
    freeze(lab_of_its_own)
    before = group_processes(lab_of_its_own)
    parent = processes.running(lab_of_its_own, node.INIT)
    assert parent is not None
    os.kill(parent, signal.SIGKILL)
    up(OTHER_NAME)
    assert not set(before) & set(group_processes(lab_of_its_own))
    wait_for_restart(lab_of_its_own)


def test_down_of_a_half_dead_lab_leaves_nothing(lab_of_its_own: Lab) -> None:
    pids = parts(lab_of_its_own)
    for part in ("etcd", "containerd"):
        pid = pids[part]
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
    subprocess.run(["ip", "link", "delete", lab_of_its_own.link("node")], check=True)
    shutil.rmtree(lab_of_its_own.configuration)
    run_lab("down", "--name", OTHER_NAME)
    assert traces(lab_of_its_own) == {}


@pytest.mark.parametrize("seconds", [0.4, 1.0, 2.5])
def test_an_up_that_was_killed_on_its_way_is_finished_by_the_next(seconds: float) -> None:
    run_lab("down", "--name", OTHER_NAME)
    command = [sys.executable, "-m", "lab", "up", "--bare", "--name", OTHER_NAME]
    first = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.DEVNULL)
    time.sleep(seconds)
    first.kill()
    first.wait()
    lab = up(OTHER_NAME)
    assert lifecycle.status(lab)["node_ready"]
    # Nothing runs twice: there is one process for each part.
    for name in controlplane.DAEMONS:
        running = [text for text in traces(lab)["processes"] if text.startswith(f"{programs.path(name)} ")]
        assert len(running) == 1, running
    run_lab("down", "--name", OTHER_NAME)
    assert traces(lab) == {}


def test_down_ends_no_process_that_it_did_not_start(lab_of_its_own: Lab) -> None:
    with subprocess.Popen(["sleep", "600"]) as foreign:
        etcd = lab_of_its_own.pids / "etcd.json"
        record = json.loads(etcd.read_text())
        # What a reused PID looks like: the number is alive, the start time is another's.
        (lab_of_its_own.pids / "reused.json").write_text(json.dumps({**record, "pid": foreign.pid}))
        run_lab("down", "--name", OTHER_NAME)
        assert foreign.poll() is None
        foreign.kill()


def test_down_of_no_lab_is_no_error() -> None:
    assert "is not there" in run_lab("down", "--name", "rf-test-none").stdout


def test_a_machine_without_root_is_told_what_to_use_instead(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert main(["up", "--name", "rf-test-none"]) == 2
    assert "ringfence --context" in capsys.readouterr().err
    assert layout.find("rf-test-none") is None


def test_a_network_that_is_routed_elsewhere_is_refused_and_kept(root: None) -> None:
    run_lab("down", "--name", OTHER_NAME)
    lab = layout.claim(OTHER_NAME)
    route = [lab.service_cidr, "dev", "lo"]
    subprocess.run(["ip", "route", "add", *route], check=True)
    try:
        result = run_lab("up", "--bare", "--name", OTHER_NAME, check=False)
        assert result.returncode == 1
        assert f"already routes {lab.service_cidr} by lo" in result.stderr
        run_lab("down", "--name", OTHER_NAME)
        shown = subprocess.run(["ip", "route", "show", lab.service_cidr], capture_output=True, text=True, check=True)
        assert "dev lo" in shown.stdout
    finally:
        subprocess.run(["ip", "route", "delete", *route], check=True)
