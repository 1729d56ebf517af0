"""Argo CD's real controllers, as daemons of the host beside the API server: they sync and heal as in any cluster.

Redis (Debian's), repo-server, application-controller and applicationset-controller; no API server and no web page of
its own. In the cluster are its CRDs (from its Go module, never copied here), the namespace ``argocd`` with its
configuration and an identity that may do everything, as its installation manifest gives it. What it delivers comes
from git repositories on this machine (lab/gitops.py). ``stop`` removes all of it, and leaves what it had delivered.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

from lab import accounts, certificates, definitions, files, packages, processes, programs
from lab.errors import LabError
from lab.kube import Kube, NotFound, Object, wait_until
from lab.layout import Lab
from lab.processes import Daemon

NAME = "argocd"
NAMESPACE = "argocd"
API_VERSION = "argoproj.io/v1alpha1"
GROUPS = ("argoproj.io",)
KINDS = ("ApplicationSet", "Application", "AppProject")
REDIS, REPOSITORIES, APPLICATIONS, SETS = (
    "argocd-redis",
    "argocd-repo-server",
    "argocd-application-controller",
    "argocd-applicationset-controller",
)
DAEMONS = (SETS, APPLICATIONS, REPOSITORIES, REDIS)
CONFIGURATIONS = ("cm", "cmd-params-cm", "rbac-cm", "gpg-keys-cm", "ssh-known-hosts-cm", "tls-certs-cm")
SELF_HEAL_SECONDS = 1
RESYNC_SECONDS = 10
READY_SECONDS = 90.0
NEEDED = {"redis-server": "redis-server", "git": "git"}

_LABELS = {"app.kubernetes.io/part-of": "argocd"}


def start(lab: Lab) -> None:
    """Starts or heals it; returns when each of its parts listens and the CRDs are served.

    Raises:
        LabError: it cannot be built, or ends, or does not answer in time.
    """
    packages.ensure(NEEDED)
    kube = Kube.of(lab)
    try:
        if all(processes.is_current(lab, daemon) for daemon in _daemons(lab)) and _answers(lab):
            return
        processes.stop(lab, *DAEMONS, grace=0)
        definitions.apply(kube, _definitions(), GROUPS)
        for manifest in objects():
            kube.apply(manifest)
        _ensure_secret(kube)
        kube.apply(_project())
        _prepare(lab)
        accounts.write_kubeconfig(lab, kube, NAME, NAMESPACE, APPLICATIONS)
        home = lab.argocd / "home" / ".kube"
        home.mkdir(parents=True, exist_ok=True)
        files.write(home / "config", certificates.kubeconfig_of(lab, NAME).read_text(), mode=0o600)
        for daemon in _daemons(lab):
            processes.ensure(lab, daemon)
        wait_until(lambda: _answers(lab), READY_SECONDS, "Argo CD to listen", interval=0.2)
    except LabError as error:
        ends = "\n".join(f"{name}:\n{processes.last_lines(lab, name)}" for name in DAEMONS)
        raise LabError(
            f"Argo CD does not work: {error}\nThe ends of the logs in {lab.logs}:\n{ends}\n"
            f"Take it away by `python -m lab profile {NAME} off --name {lab.name}`."
        ) from error
    finally:
        kube.close()


def stop(lab: Lab) -> None:
    """Ends it and removes every object that came with it; what it delivered stays as it is.

    Raises:
        LabError: the API server does not answer, or objects do not go.
    """
    processes.stop(lab, *DAEMONS, grace=0)
    kube = Kube.of(lab)
    try:
        _forget(kube)
        kube.delete("v1", "Namespace", NAMESPACE)
        definitions.delete(kube, GROUPS)
        kube.delete("rbac.authorization.k8s.io/v1", "ClusterRoleBinding", APPLICATIONS)
        kube.delete("v1", "Namespace", NAMESPACE, wait=READY_SECONDS)
        definitions.wait_gone(kube, GROUPS)
    finally:
        kube.close()
    certificates.kubeconfig_of(lab, NAME).unlink(missing_ok=True)
    shutil.rmtree(lab.argocd, ignore_errors=True)


def objects() -> list[Object]:
    """What Argo CD looks up in the cluster, and its rights, in the order to apply them."""
    rbac = "rbac.authorization.k8s.io"
    place = {"namespace": NAMESPACE, "labels": _LABELS}
    subject = {"kind": "ServiceAccount", "name": APPLICATIONS, "namespace": NAMESPACE}
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": APPLICATIONS, **place}},
        *(
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"argocd-{name}", **place}, "data": {}}
            for name in CONFIGURATIONS
        ),
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": APPLICATIONS, "labels": _LABELS},
            "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": "cluster-admin"},
            "subjects": [subject],
        },
    ]


def _project() -> Object:
    everything = [{"group": "*", "kind": "*"}]
    return {
        "apiVersion": API_VERSION,
        "kind": "AppProject",
        "metadata": {"name": "default", "namespace": NAMESPACE},
        "spec": {
            "sourceRepos": ["*"],
            "destinations": [{"namespace": "*", "server": "*"}],
            "clusterResourceWhitelist": everything,
        },
    }


def _ensure_secret(kube: Kube) -> None:
    if kube.find("v1", "Secret", "argocd-secret", NAMESPACE) is not None:
        return
    kube.create(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "argocd-secret", "namespace": NAMESPACE, "labels": _LABELS},
            "stringData": {"server.secretkey": secrets.token_hex(32)},
        }
    )


def _prepare(lab: Lab) -> None:
    """Folders, a link for each name by which the one program acts, and an answer for who verifies signatures."""
    for name in ("home", "temporary", "bin", "redis"):
        (lab.argocd / name).mkdir(parents=True, exist_ok=True)
    for name in (REPOSITORIES, APPLICATIONS, SETS):
        link = lab.argocd / "bin" / name
        link.unlink(missing_ok=True)
        link.symlink_to(programs.path(NAME))
    verifier = lab.argocd / "bin" / "git-verify-wrapper.sh"
    files.write(verifier, "#!/bin/sh\nexit 0\n", mode=0o755)


def _daemons(lab: Lab) -> tuple[Daemon, ...]:
    folder, host = lab.argocd, "127.0.0.1"
    redis, repositories = (f"{host}:{lab.argocd_port(number)}" for number in (0, 1))
    kubeconfig = f"--kubeconfig={certificates.kubeconfig_of(lab, NAME)}"
    environment = {
        "HOME": str(folder / "home"),
        "PATH": f"{folder / 'bin'}:{os.environ.get('PATH', os.defpath)}",
        "TMPDIR": str(folder / "temporary"),
        "ARGOCD_FAKE_IN_CLUSTER": "true",
        "ARGOCD_GPG_ENABLED": "false",
        "KUBECONFIG": str(certificates.kubeconfig_of(lab, NAME)),
    }

    def part(name: str, *options: str) -> Daemon:
        return Daemon(name, (str(folder / "bin" / name), *options, "--loglevel=warn"), environment, lab.state)

    to_redis = f"--redis={redis}"
    server = redis.rpartition(":")[2]
    redis_options = ("--port", server, "--bind", host, "--save", "", "--appendonly", "no", "--dir", f"{folder}/redis")
    return (
        Daemon(REDIS, (packages.find("redis-server"), *redis_options), {}, lab.state),
        part(
            REPOSITORIES,
            to_redis,
            f"--address={host}",
            f"--port={lab.argocd_port(1)}",
            f"--metrics-address={host}",
            f"--metrics-port={lab.argocd_port(2)}",
            "--disable-tls",
            "--client-ca-path=",
            "--revision-cache-expiration=1s",
        ),
        part(
            APPLICATIONS,
            kubeconfig,
            f"--namespace={NAMESPACE}",
            to_redis,
            f"--repo-server={repositories}",
            "--repo-server-plaintext",
            f"--metrics-port={lab.argocd_port(3)}",
            f"--self-heal-timeout-seconds={SELF_HEAL_SECONDS}",
            "--self-heal-backoff-timeout-seconds=1",
            "--self-heal-backoff-cap-seconds=2",
            f"--app-resync={RESYNC_SECONDS}",
            "--app-resync-jitter=0",
            "--status-processors=4",
            "--operation-processors=4",
        ),
        part(
            SETS,
            kubeconfig,
            f"--namespace={NAMESPACE}",
            f"--argocd-repo-server={repositories}",
            "--repo-server-plaintext",
            "--enable-leader-election=false",
            f"--metrics-addr={host}:{lab.argocd_port(4)}",
            f"--probe-addr={host}:{lab.argocd_port(5)}",
            f"--webhook-addr={host}:{lab.argocd_port(6)}",
        ),
    )


def _answers(lab: Lab) -> bool:
    """Whether every part listens; one that has ended meanwhile is an error.

    Raises:
        LabError: a part ended.
    """
    for name in DAEMONS:
        if processes.running(lab, name) is None:
            raise LabError(f"{name} ended")
    for number in (0, 1, 3, 5):
        with socket.socket() as probe:
            probe.settimeout(1.0)
            if probe.connect_ex(("127.0.0.1", lab.argocd_port(number))):
                return False
    return True


def _definitions() -> dict[str, Path]:
    folder = programs.asset(programs.ARGOCD, "crds")
    return {
        f"{plural}.{GROUPS[0]}": folder / f"{plural.removesuffix('s')}-crd.yaml"
        for plural in ("applications", "applicationsets", "appprojects")
    }


def _forget(kube: Kube) -> None:
    """Deletes the Applications without what they delivered: nobody is left to carry their finalizers out."""
    for kind, obj in _resources(kube):
        meta = obj["metadata"]
        with contextlib.suppress(NotFound):  # One may go with another.
            if meta.get("finalizers"):
                body = {"metadata": {"finalizers": None}}
                kube.patch(API_VERSION, kind, meta["name"], meta["namespace"], body=body)
            kube.delete(API_VERSION, kind, meta["name"], meta["namespace"])


def _resources(kube: Kube) -> Iterator[tuple[str, Object]]:
    for kind in KINDS:
        with contextlib.suppress(NotFound):  # The kind is gone already.
            yield from ((kind, obj) for obj in kube.list(API_VERSION, kind))
