"""An RBAC rule and the reason for it; ClusterRoles and checks are rendered from these."""

from __future__ import annotations

from typing import NamedTuple


class Permission(NamedTuple):
    """``resource`` is ``plural[/subresource][.group]``; ``everywhere`` asks for it beyond the target's namespace."""

    resource: str
    verbs: frozenset[str]
    because: str
    everywhere: bool = False

    @property
    def plural(self) -> str:
        """The resource without its group: ``pods/log``."""
        return self.resource.partition(".")[0]

    @property
    def group(self) -> str:
        return self.resource.partition(".")[2]
