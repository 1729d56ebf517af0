"""What the lab's Argo CD delivers: parts of the bank, into a namespace of one's own, from a git repository beside it.

Three ways, as a platform has them: an Application that somebody made (``plain``), one that an ApplicationSet generates
(``set``), one that a parent Application delivers (``parent``: app of apps). All sync by themselves, prune and heal.
They need the profile ``argocd`` (lab/profiles.py).
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from lab import argocd_controller
from lab.argocd_controller import API_VERSION, NAMESPACE
from lab.bank.deploy import MANIFESTS, manifests
from lab.bank.deploy import NAMESPACE as BANK
from lab.errors import LabError
from lab.kube import Kube, NotFound, Object, Objects, wait_until
from lab.layout import Lab

Variant = Literal["plain", "set", "parent"]
SYNC_SECONDS = 90.0
AUTOMATED = {"prune": True, "selfHeal": True}
WORKLOAD_FOLDER, APPLICATION_FOLDER = "deploy", "applications"
# So that a repository of root's is read whoever looks, and a commit needs nothing of the machine's.
_GIT = {
    "GIT_AUTHOR_NAME": "lab",
    "GIT_AUTHOR_EMAIL": "lab@ringfence.local",
    "GIT_COMMITTER_NAME": "lab",
    "GIT_COMMITTER_EMAIL": "lab@ringfence.local",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
}


@dataclass(frozen=True)
class Delivered:
    """``application`` is the name of the one that delivers into ``namespace``; ``top`` of what stands above it (a
    Kind and a name), empty when nothing does."""

    namespace: str
    application: str
    repository: Path
    top: tuple[str, str] | None


def copy_of_bank(namespace: str, *parts: str) -> Objects:
    """The manifests of these parts of the bank (``loans``, ``cards``, …; none: all), for another namespace."""
    wanted = parts or tuple(file.stem for file in MANIFESTS.glob("*.yaml"))
    named = {(m["kind"], m["metadata"]["name"]) for part in wanted for m in _of(part)}
    chosen = [m for m in manifests() if m["kind"] != "Namespace" and (m["kind"], m["metadata"]["name"]) in named]
    return [_moved(manifest, namespace) for manifest in chosen]


def deliver(lab: Lab, kube: Kube, namespace: str, wanted: Objects, variant: Variant = "plain") -> Delivered:
    """Has Argo CD deliver the ``wanted`` manifests into the namespace, which exists; returns when it says Synced.

    Raises:
        LabError: the profile is off, git fails, or it is not Synced in time.
    """
    try:
        kube.list(API_VERSION, "Application", NAMESPACE)
    except NotFound as error:
        raise LabError("this lab has no Argo CD: turn it on by `python -m lab profile argocd on`") from error
    repository = lab.argocd / "git" / namespace
    application = _application(namespace, namespace, repository, WORKLOAD_FOLDER)
    content = {f"{WORKLOAD_FOLDER}/{m['kind'].lower()}-{m['metadata']['name']}.yaml": m for m in wanted}
    if variant == "parent":
        content[f"{APPLICATION_FOLDER}/{namespace}.yaml"] = application
    commit(repository, content, "what is delivered")
    top: tuple[str, str] | None = None
    match variant:
        case "plain":
            kube.apply(application)
        case "set":
            top = ("ApplicationSet", f"{namespace}-set")
            template = {"metadata": {"name": "{{name}}"}, "spec": application["spec"]}
            spec = {"generators": [{"list": {"elements": [{"name": namespace}]}}], "template": template}
            kube.apply(_object(*top, spec))
        case "parent":
            top = ("Application", f"{namespace}-parent")
            kube.apply(_application(top[1], NAMESPACE, repository, APPLICATION_FOLDER))
    wait_until(lambda: is_synced(kube, namespace), SYNC_SECONDS, f"Argo CD to deliver {namespace}", interval=0.2)
    return Delivered(namespace, namespace, repository, top)


def withdraw(kube: Kube, delivered: Delivered) -> None:
    """Takes the Applications away, from the top; what they delivered stays."""
    with_kind = [*([delivered.top] if delivered.top else []), ("Application", delivered.application)]
    for kind, name in with_kind:
        kube.delete(API_VERSION, kind, name, NAMESPACE, wait=30.0)


def commit(repository: Path, content: dict[str, Object], message: str) -> str:
    """Writes these files (path → manifest), makes the repository if need be, and commits; the commit's id.

    Raises:
        LabError: git fails.
    """
    if not (repository / ".git").is_dir():
        repository.mkdir(parents=True, exist_ok=True)
        _git(repository, "init", "--quiet", "--initial-branch=main")
    for name, manifest in content.items():
        path = repository / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(manifest, sort_keys=False))
    _git(repository, "add", "--all")
    _git(repository, "commit", "--quiet", "--allow-empty", "-m", message)
    return _git(repository, "rev-parse", "HEAD").strip()


def is_synced(kube: Kube, application: str) -> bool:
    """Whether Argo CD says that all is as in Git, and no sync is under way."""
    found = kube.find(API_VERSION, "Application", application, NAMESPACE)
    status = (found or {}).get("status") or {}
    done = (status.get("operationState") or {}).get("phase") == "Succeeded"
    return done and (status.get("sync") or {}).get("status") == "Synced"


def _application(name: str, namespace: str, repository: Path, folder: str) -> Object:
    spec = {
        "project": "default",
        "source": {"repoURL": repository.as_uri(), "path": folder, "targetRevision": "main"},
        "destination": {"server": "https://kubernetes.default.svc", "namespace": namespace},
        "syncPolicy": {"automated": dict(AUTOMATED)},
    }
    return _object("Application", name, spec)


def _object(kind: str, name: str, spec: Object) -> Object:
    place = {"name": name, "namespace": argocd_controller.NAMESPACE}
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": place, "spec": spec}


def _of(part: str) -> Objects:
    file = MANIFESTS / f"{part}.yaml"
    if not file.is_file():
        raise LabError(f"the bank has no part {part!r}")
    return list(yaml.safe_load_all(file.read_text()))


def _moved(value: Any, namespace: str) -> Any:
    match value:
        case dict():
            return {
                key: namespace if key == "namespace" and member == BANK else _moved(member, namespace)
                for key, member in value.items()
            }
        case list():
            return [_moved(member, namespace) for member in value]
    return value


def _git(repository: Path, *arguments: str) -> str:
    command = ["git", "-c", f"safe.directory={repository}", "-C", str(repository), *arguments]
    done = subprocess.run(command, env={**os.environ, **_GIT}, capture_output=True, text=True)
    if done.returncode:
        raise LabError(f"git {' '.join(arguments)} in {repository}: {done.stderr[-500:].strip()}")
    return done.stdout
