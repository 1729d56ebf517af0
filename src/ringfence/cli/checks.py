"""``doctor``: what will work tonight, and what will not. Each check says what it saw and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ringfence import app as wiring
from ringfence.actions.registry import ACTIONS
from ringfence.cli.output import Format, say, say_json, styled
from ringfence.cli.text import clean
from ringfence.config import Config
from ringfence.errors import ExitCode, RingfenceError
from ringfence.evidence.permissions import PERMISSIONS as EVIDENCE_PERMISSIONS
from ringfence.model.permission import Permission
from ringfence.platform.kubernetes.client import Cluster, connect
from ringfence.platform.kubernetes.identity import cluster_uid, may, whoami

_CLOCK_WARN_MS = 2000


class Check(NamedTuple):
    """``result`` is ok, warning or failed."""

    name: str
    result: str
    saw: str
    next_step: str = ""


def run(config: Config, namespace: str | None, out: Format) -> ExitCode:
    """Print every check; the exit code is that of the first failure."""
    failures: list[RingfenceError] = []
    checks = list(_all(config, namespace, failures))
    if out is Format.JSON:
        say_json([check._asdict() for check in checks])
    else:
        for check in checks:
            style = {"ok": "green", "warning": "yellow", "failed": "red"}[check.result]
            say(f"{styled(check.result.upper().ljust(8), style)} {check.name.ljust(26)} {clean(check.saw)}")
            if check.next_step:
                say(" " * 36 + clean(f"next: {check.next_step}"))
    if failures:
        return failures[0].exit_code
    return ExitCode.REFUSED if any(check.result == "failed" for check in checks) else ExitCode.OK


def _all(config: Config, namespace: str | None, failures: list[RingfenceError]) -> Iterator[Check]:
    try:
        wiring.store(config).close()
        yield Check("store", "ok", config.store.url)
    except RingfenceError as error:
        yield _failed("store", error, failures)
    try:
        wiring.vault(config).check()
        yield Check("vault", "ok", f"{config.vault.path} can be written")
    except RingfenceError as error:
        yield _failed("vault", error, failures)
    try:
        yield Check("signing key", "ok", f"{config.signing.key}, key {wiring.signing_key(config).key_id}")
    except RingfenceError as error:
        yield _failed("signing key", error, failures)
    if config.contacts:
        yield Check("contacts", "ok", f"{len(config.contacts)} in the configuration")
    else:
        yield Check("contacts", "warning", "none configured", "contacts in the configuration: who is called at night")
    try:
        kubeconfig = str(config.cluster.kubeconfig) if config.cluster.kubeconfig else None
        cluster = connect(kubeconfig, config.cluster.context, config.cluster.timeout_seconds)
        cluster_id = cluster_uid(cluster)
        principal = whoami(cluster, cluster_id)
    except RingfenceError as error:
        yield _failed("cluster", error, failures)
        return
    yield Check("cluster", "ok", f"{cluster.server}, uid {cluster_id}")
    yield Check("identity", "ok", f"{principal.subject}, vouched for by the cluster")
    yield _clock(cluster)
    yield from _rights(cluster, namespace or cluster.namespace)
    yield Check(
        "network enforcement",
        "warning",
        "not tried: nothing in the API says whether NetworkPolicies are enforced",
        "try a deny-all on a test pod; what the plugin does with open connections differs",
    )


def _clock(cluster: Cluster) -> Check:
    offset = cluster.clock_offset_ms
    if offset is None:
        return Check("clock", "warning", "the server sent no time", "compare clocks by hand")
    if abs(offset) > _CLOCK_WARN_MS:
        return Check(
            "clock", "warning", f"the server's clock differs by {offset} ms", "synchronise this machine's clock"
        )
    return Check("clock", "ok", f"within {_CLOCK_WARN_MS} ms of the server's ({offset} ms)")


def _rights(cluster: Cluster, namespace: str) -> Iterator[Check]:
    for owner, permissions in [
        *((name, action.permissions) for name, action in ACTIONS.items()),
        ("evidence", EVIDENCE_PERMISSIONS),
    ]:
        lacking = [words for permission in permissions for words in _lacking(cluster, namespace, permission)]
        if lacking:
            result = "warning" if owner == "evidence" else "failed"
            yield Check(f"rights: {owner}", result, "; ".join(lacking), "grant them, or know what will be missing")
        else:
            yield Check(f"rights: {owner}", "ok", f"all in namespace {namespace} (admission may still refuse)")


def _lacking(cluster: Cluster, namespace: str, permission: Permission) -> Iterator[str]:
    plural, _, subresource = permission.plural.partition("/")
    for verb in sorted(permission.verbs):
        where = "" if permission.everywhere else namespace
        if not may(cluster, verb, plural, group=permission.group, namespace=where, subresource=subresource):
            yield f"{verb} {permission.resource}{' in all namespaces' if permission.everywhere else ''}"


def _failed(name: str, error: RingfenceError, failures: list[RingfenceError]) -> Check:
    failures.append(error)
    return Check(name, "failed", str(error), error.next_step)
