"""The lab's node: containerd, kubelet and kube-proxy in namespaces of their own.

Inside, everything lies where every node has it (/var/lib/kubelet, /run/containerd, ...); each of these is a folder of
``lab.state``, so two labs share nothing, and the machine's own containerd or kubelet is never touched.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from lab import api, certificates, cgroups, files, layout, network, packages, processes, programs
from lab.errors import LabError
from lab.layout import Lab
from lab.processes import Daemon

INIT = "node"
PROGRAMS = ("containerd", "kubelet", "kube-proxy")
PAUSE_IMAGE = "ringfence.local/pause:1"
READY_SECONDS = 90.0
STOP_SECONDS = 15.0
# A lease is renewed every 10 s; node-monitor-grace-period is 50 s.
FRESH_SECONDS = 40.0

# Folder of ``lab.state`` → where it appears on the node.
FOLDERS = {
    "kubelet": "/var/lib/kubelet",
    "containerd-root": "/var/lib/containerd",
    "containerd": "/run/containerd",
    "cni": "/var/lib/cni",
    "pod-logs": "/var/log/pods",
    "container-logs": "/var/log/containers",
}

# Folders that did not exist on the machine before; beside the labs' own, because all labs mount on them.
MOUNT_POINT_RECORD = layout.STATE_ROOT / ".mount-points"

# What kubelet would set for the whole machine at its start (pkg/kubelet/cm, setupKernelTunables). It finds these
# values there already, and the machine keeps its own.
KERNEL_TUNABLES = {
    "/proc/sys/vm/overcommit_memory": "1",
    "/proc/sys/vm/panic_on_oom": "0",
    "/proc/sys/kernel/panic": "10",
    "/proc/sys/kernel/panic_on_oops": "1",
    "/proc/sys/kernel/keys/root_maxkeys": "1000000",
    "/proc/sys/kernel/keys/root_maxbytes": "25000000",
}

# Mounts of other network namespaces and container engines, which the node would otherwise keep alive.
FOREIGN_MOUNTS = ("/run/netns/", "/run/docker/", "/var/lib/docker/", *(f"{folder}/" for folder in FOLDERS.values()))


def ensure(lab: Lab) -> None:
    """Starts the node, or leaves it alone when it runs with this very configuration."""
    cgroups.ensure(lab)
    for name, target in FOLDERS.items():
        (lab.state / name).mkdir(exist_ok=True)
        _make_mount_point(Path(target))
    for folder in (lab.dns_hosts, lab.registries, lab.logs):
        folder.mkdir(exist_ok=True)
    _write_configuration(lab)
    specification = lab.configuration / "node.json"
    text = json.dumps(_specification(lab), indent=1)
    files.write(specification, text)
    configuration = hashlib.sha256(text.encode())
    for file in sorted((lab.configuration / "node").rglob("*")):
        if file.is_file():
            configuration.update(file.read_bytes())
    daemon = _daemon(specification, lab, configuration.hexdigest())
    if not processes.is_current(lab, daemon):
        stop(lab)
        cgroups.wait_empty(lab)
        lab.containerd_socket.unlink(missing_ok=True)  # A dead containerd's: kubelet would not wait for the new one.
    processes.ensure(lab, daemon)


def stop(lab: Lab) -> None:
    """Ends the node and everything on it. Killing process 1 of its PID namespace leaves no process and no mount."""
    cgroups.thaw(lab)
    parent = processes.running(lab, INIT)
    if parent is not None:
        for init in _children(parent):
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(init["Pid"]), signal.SIGKILL)
        # The parent (unshare) ends when its whole namespace has: waiting for it is waiting for all.
        deadline = time.monotonic() + STOP_SECONDS
        while processes.running(lab, INIT) is not None and time.monotonic() < deadline:
            time.sleep(0.02)
    processes.stop(lab, INIT, grace=0)


def wait_ready(lab: Lab) -> None:
    """Waits until the Node is Ready by a heartbeat of the kubelet that runs now.

    Raises:
        LabError: it is not in time; with the end of kubelet's log.
    """
    deadline = time.monotonic() + READY_SECONDS
    while not ready(lab):
        if processes.running(lab, INIT) is None:
            raise LabError(f"the node ended. The end of its log:\n{processes.last_lines(lab, INIT)}")
        if time.monotonic() > deadline:
            raise LabError(
                f"the node was not Ready after {READY_SECONDS:.0f} s."
                f" The end of {processes.log_path(lab, 'kubelet')}:\n{processes.last_lines(lab, 'kubelet')}"
            )
        time.sleep(0.1)


def ready(lab: Lab) -> bool:
    """Whether the Node's Ready condition is True, was posted by the running kubelet, and that one is still alive.

    After a restart the API still holds the Ready of the time before, so the condition alone says nothing.
    """
    kubelet = running_programs(lab).get("kubelet")
    node = api.get(lab, f"/api/v1/nodes/{lab.node}")
    lease = api.get(lab, f"/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{lab.node}")
    if kubelet is None or node is None:
        return False
    conditions = {condition["type"]: condition for condition in node["status"].get("conditions", [])}
    condition = conditions.get("Ready")
    if condition is None or condition["status"] != "True":
        return False
    since = processes.started_at(kubelet)
    heartbeat = _seconds(condition["lastHeartbeatTime"])
    # A condition that stays the same is posted every 5 min only; the lease, which kubelet makes a little later
    # than its first condition, is renewed in between.
    last = max(heartbeat, _seconds(lease["spec"]["renewTime"]) if lease else 0.0)
    # Heartbeats are in whole seconds, rounded down.
    return heartbeat + 1 > since and time.time() - last < FRESH_SECONDS


def running_programs(lab: Lab) -> dict[str, int]:
    """containerd, kubelet and kube-proxy as far as they run: name → PID on the host."""
    parent = processes.running(lab, INIT)
    if parent is None:
        return {}
    try:
        state = json.loads((lab.state / "node-programs.json").read_text())
    except FileNotFoundError:
        return {}
    inside = {entry["pid"]: name for name, entry in state.items() if entry["pid"] is not None}
    found = {}
    for init in _children(parent):
        for process in _children(int(init["Pid"])):
            name = inside.get(int(process["NSpid"].split()[-1]))
            if name is not None and not process["State"].startswith(("Z", "X")):
                found[name] = int(process["Pid"])
    return found


def remove_mount_points() -> None:
    """Removes the empty folders that labs made on the machine; only for the last lab on it."""
    if not MOUNT_POINT_RECORD.exists():
        return
    for line in reversed(MOUNT_POINT_RECORD.read_text().splitlines()):
        folder = Path(line)
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
    MOUNT_POINT_RECORD.unlink()


def _make_mount_point(folder: Path) -> None:
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    if missing:
        with MOUNT_POINT_RECORD.open("a") as record:
            record.writelines(f"{path}\n" for path in reversed(missing))
        folder.mkdir(parents=True, exist_ok=True)


def _daemon(specification: Path, lab: Lab, version: str) -> Daemon:
    init = Path(__file__).with_name("node_init.py")
    # nsenter and not `ip netns exec`: that one mounts /sys anew, and the cgroups vanish.
    argv = (
        packages.find("nsenter"),
        f"--net={network.namespace_path(lab.node_netns)}",
        packages.find("unshare"),
        *("--mount", "--pid", "--uts", "--fork", "--kill-child=SIGKILL", "--mount-proc", "--propagation", "private"),
        "/usr/bin/python3",
        str(init),
        str(specification),
    )
    version += hashlib.sha256(init.read_bytes()).hexdigest()
    return Daemon(INIT, argv, {"PATH": packages.FOLDERS}, version=version)


def _specification(lab: Lab) -> dict[str, Any]:
    folder = lab.configuration / "node"
    environment = {"PATH": packages.FOLDERS, "HOME": "/root"}
    socket = "/run/containerd/containerd.sock"
    proxy = (
        str(programs.path("kube-proxy")),
        f"--kubeconfig={certificates.kubeconfig_of(lab, 'kube-proxy')}",
        f"--hostname-override={lab.node}",
        "--proxy-mode=nftables",
        # The conntrack limits belong to the whole machine: not ours to set, and often not allowed.
        "--conntrack-max-per-core=0",
        "--conntrack-min=0",
        "--conntrack-tcp-timeout-established=0",
        "--conntrack-tcp-timeout-close-wait=0",
    )
    kubelet = (
        str(programs.path("kubelet")),
        f"--config={folder / 'kubelet.yaml'}",
        f"--kubeconfig={certificates.kubeconfig_of(lab, 'kubelet-client')}",
        f"--hostname-override={lab.node}",
        f"--node-ip={lab.node_address}",
    )
    containerd = (packages.find("containerd"), "--config", str(folder / "containerd.toml"))
    arguments = {"containerd": (containerd, None), "kubelet": (kubelet, socket), "kube-proxy": (proxy, None)}
    return {
        "hostname": lab.node,
        "binds": [[str(lab.state / name), target] for name, target in FOLDERS.items()],
        "files": KERNEL_TUNABLES,
        "foreign_mounts": FOREIGN_MOUNTS,
        "state": str(lab.state / "node-programs.json"),
        "programs": [
            {
                "name": name,
                "argv": argv,
                "environment": environment,
                "log": str(processes.log_path(lab, name)),
                "needs": needs,
            }
            for name, (argv, needs) in arguments.items()
        ],
    }


def _write_configuration(lab: Lab) -> None:
    folder = lab.configuration / "node"
    (folder / "cni").mkdir(parents=True, exist_ok=True)
    files.write(folder / "containerd.toml", _containerd_configuration(lab, folder / "cni"))
    files.write(folder / "cni" / "10-lab.conflist", json.dumps(_cni_configuration(lab), indent=1))
    files.write(folder / "kubelet.yaml", yaml.safe_dump(_kubelet_configuration(lab), sort_keys=False))
    # What pods with dnsPolicy Default get: no resolver of the machine is theirs to ask.
    files.write(folder / "resolv.conf", f"nameserver {lab.dns_service}\n")


def _containerd_configuration(lab: Lab, cni_folder: Path) -> str:
    return f"""\
version = 2
root = "/var/lib/containerd"
state = "/run/containerd"

[grpc]
  address = "/run/containerd/containerd.sock"

[plugins."io.containerd.internal.v1.opt"]
  path = "/var/lib/containerd/opt"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  # Without CAP_SYS_RESOURCE runc may not lower an OOM score, and dies of it.
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true

  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{packages.CNI_FOLDER}"
    conf_dir = "{cni_folder}"

  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "{lab.registries}"

  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = false
      Root = "/run/containerd/runc"
"""


def _cni_configuration(lab: Lab) -> dict[str, Any]:
    # ptp: every packet of a pod is routed, so a forward hook in the node's namespace sees all of them.
    return {
        "cniVersion": "0.4.0",
        "name": "lab",
        "plugins": [
            {
                "type": "ptp",
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{"subnet": lab.pod_cidr}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                    "dataDir": "/var/lib/cni/networks",
                },
            }
        ],
    }


def _kubelet_configuration(lab: Lab) -> dict[str, Any]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": lab.node_address,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(certificates.certificate(lab, "ca"))},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(certificates.certificate(lab, "kubelet")),
        "tlsPrivateKeyFile": str(certificates.key(lab, "kubelet")),
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": lab.cgroup,
        "failCgroupV1": False,
        "failSwapOn": False,
        "enforceNodeAllocatable": [],
        # The machine's disk is not the lab's: no eviction, and no image is ever removed to make room.
        "evictionHard": {},
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "makeIPTablesUtilChains": False,
        # The default lies in /usr/libexec of the machine.
        "volumePluginDir": "/var/lib/kubelet/volume-plugins",
        "clusterDNS": [lab.dns_service],
        "clusterDomain": "cluster.local",
        "resolvConf": str(lab.configuration / "node" / "resolv.conf"),
        "maxPods": 200,
        # One file of a container's log is all that the API gives out: bench.logs reads 200 MB of it.
        "containerLogMaxSize": "256Mi",
    }


def _children(pid: int) -> list[dict[str, str]]:
    """The fields of /proc/PID/status of a process's children."""
    found = []
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            fields = dict(line.split(":\t", 1) for line in status.read_text().splitlines() if ":\t" in line)
        except (FileNotFoundError, ProcessLookupError):
            continue
        if fields.get("PPid") == str(pid):
            found.append(fields)
    return found


def _seconds(timestamp: str) -> float:
    return datetime.fromisoformat(timestamp).astimezone(UTC).timestamp()
