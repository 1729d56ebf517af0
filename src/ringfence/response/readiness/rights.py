"""Which rights we lack, asked one by one (SelfSubjectAccessReview): what nothing could be tried on is asked for too."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from ringfence.model.permission import Permission
from ringfence.platform.kubernetes.client import Cluster
from ringfence.platform.kubernetes.identity import may
from ringfence.response.readiness.findings import Finding, fail, ok, warn


def rights(
    cluster: Cluster,
    wanted: Mapping[str, Sequence[Permission]],
    namespaces: Sequence[str],
    pool: ThreadPoolExecutor,
    *,
    optional: frozenset[str],
) -> Iterator[Finding]:
    """A finding for each owner of permissions in ``wanted``. What an ``optional`` one lacks is a warning."""
    questions = {
        owner: [
            (permission, verb, where)
            for permission in permissions
            for verb in sorted(permission.verbs)
            for where in ([""] if permission.everywhere else namespaces)
        ]
        for owner, permissions in wanted.items()
    }
    asked = {one for listed in questions.values() for one in map(_key, listed)}
    answers = dict(zip(asked, pool.map(lambda key: _may(cluster, key), asked), strict=True))
    for owner, listed in questions.items():
        lacking = list(dict.fromkeys(_words(*one) for one in listed if not answers[_key(one)]))
        if not lacking:
            yield ok(f"rights: {owner}", f"all, in {', '.join(namespaces)} (admission may still refuse)")
        elif owner in optional:
            yield warn(f"rights: {owner}", f"lacking: {'; '.join(lacking)}", "grant them, or know what will be missing")
        else:
            yield fail(f"rights: {owner}", f"lacking: {'; '.join(lacking)}", "ringfence rbac renders the rights")


_Question = tuple[Permission, str, str]
_Key = tuple[str, str, str, str, str]


def _key(question: _Question) -> _Key:
    permission, verb, where = question
    plural, _, subresource = permission.plural.partition("/")
    return verb, permission.group, plural, subresource, where


def _may(cluster: Cluster, key: _Key) -> bool:
    verb, group, plural, subresource, where = key
    return may(cluster, verb, plural, group=group, namespace=where, subresource=subresource)


def _words(permission: Permission, verb: str, where: str) -> str:
    return f"{verb} {permission.resource} in {where or 'all namespaces'}"
