"""What a service account may do, by the RBAC bindings that give it rights and the roles that they name.

Rights by name can be taken away: a binding has the account as a subject. Rights by group (``system:authenticated`` and
the groups of all service accounts) cannot, without taking them from everybody. Other authorisers (webhooks, the node's)
are out of sight.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ringfence.errors import NotFound, PlatformError
from ringfence.model.base import Json
from ringfence.platform.kubernetes.client import Cluster
from ringfence.platform.kubernetes.rbac import Grant, grants
from ringfence.platform.kubernetes.resources import CLUSTER_ROLE, CLUSTER_ROLE_BINDING, ROLE, ROLE_BINDING
from ringfence.platform.kubernetes.selectors import printable

_SHOW = 4
_QUESTIONS = frozenset({"selfsubjectreviews", "selfsubjectaccessreviews", "selfsubjectrulesreviews"})
"""What everybody may ask about themselves."""


@dataclass(frozen=True)
class Right:
    """A binding that applies to the account, and the rules of its role; None: they could not be read."""

    grant: Grant
    rules: tuple[Json, ...] | None

    @property
    def by_group(self) -> bool:
        return self.grant.via.startswith("Group/")

    @property
    def harmless(self) -> bool:
        """Whether it lets nobody do more than look at the API's own paths and ask about themselves."""
        return self.rules is not None and all(map(_is_harmless, self.rules))

    def __str__(self) -> str:
        grant = self.grant
        where = f"{printable(grant.namespace)}/" if grant.namespace else ""
        return f"{grant.kind} {where}{printable(grant.name)}"

    @property
    def words(self) -> str:
        """What it allows, in short: ``get, list on configmaps in bank``."""
        where = f"in {printable(self.grant.namespace)}" if self.grant.namespace else "everywhere"
        if self.rules is None:
            return f"what {printable(self.grant.role)} allows {where} (not read)"
        return "; ".join(_shortened([f"{text} {where}" for text in map(_rule, self.rules)]))


@dataclass(frozen=True)
class Rights:
    """Every right of one account, as of one moment."""

    named: tuple[Right, ...]
    by_group: tuple[Right, ...]

    @property
    def effective(self) -> tuple[Right, ...]:
        """The bindings that allow more than every authenticated account needs."""
        return tuple(right for right in (*self.named, *self.by_group) if not right.harmless)

    @property
    def words(self) -> str:
        """What the account may do, in short."""
        found = _shortened([f"{right.words} ({right})" for right in self.effective])
        return "; ".join(found) or "nothing beyond what every account may"


def read_rights(cluster: Cluster, namespace: str, account: str) -> Rights:
    """Read the bindings of every namespace, and the roles of those that apply. Raises PlatformError.

    A role that cannot be read leaves its rules unknown.
    """
    return rights_of(cluster, grants(namespace, account, read_bindings(cluster)))


def read_bindings(cluster: Cluster) -> tuple[Json, ...]:
    """Every RoleBinding and ClusterRoleBinding. Raises PlatformError."""
    return (*cluster.list(CLUSTER_ROLE_BINDING), *cluster.list(ROLE_BINDING))


def rights_of(cluster: Cluster, applying: Iterable[Grant]) -> Rights:
    """The rules behind bindings that apply."""
    found = [Right(grant, _rules(cluster, grant)) for grant in applying]
    return Rights(
        named=tuple(right for right in found if not right.by_group),
        by_group=tuple(right for right in found if right.by_group),
    )


def _rules(cluster: Cluster, grant: Grant) -> tuple[Json, ...] | None:
    kind, _, name = grant.role.partition("/")
    resource, namespace = (ROLE, grant.namespace) if kind == ROLE.kind else (CLUSTER_ROLE, "")
    try:
        role = cluster.find(resource, namespace, name)
    except NotFound:  # a name that no role can have
        return ()
    except PlatformError:
        return None
    # A binding to a role that is not there gives nothing.
    return tuple((role or {}).get("rules") or ())


def _is_harmless(rule: Json) -> bool:
    verbs = set(rule.get("verbs") or ())
    if rule.get("nonResourceURLs"):
        return verbs <= {"get", "head"} and not rule.get("resources")
    return verbs <= {"create"} and set(rule.get("resources") or ()) <= _QUESTIONS


def _rule(rule: Json) -> str:
    verbs = ", ".join(_word(str(verb)) for verb in rule.get("verbs") or ())
    objects = ", ".join(_objects(rule)) or "nothing"
    names = rule.get("resourceNames")
    only = f" named {', '.join(printable(str(name)) for name in names[:_SHOW])}" if names else ""
    return f"{verbs} on {objects}{only}"


def _objects(rule: Json) -> Iterator[str]:
    groups = [str(group) for group in rule.get("apiGroups") or ("",)]
    listed = [str(one) for one in (*(rule.get("resources") or ()), *(rule.get("nonResourceURLs") or ()))]
    for text in listed[:_SHOW]:
        beyond = [group for group in groups if group]
        yield _word(f"{text}.{beyond[0]}" if len(groups) == 1 and beyond and text != "*" else text)
    if len(listed) > _SHOW:
        yield f"{len(listed) - _SHOW} more"


def _word(text: str) -> str:
    return "any" if text == "*" else printable(text)


def _shortened(texts: list[str]) -> list[str]:
    return texts if len(texts) <= _SHOW else [*texts[:_SHOW], f"and {len(texts) - _SHOW} more"]
