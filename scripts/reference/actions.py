"""``docs/reference/actions.md``: the actions, what they may do and why, and the same as RBAC."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator

from ringfence.actions.base import Action
from ringfence.actions.registry import ACTIONS
from ringfence.evidence.permissions import PERMISSIONS as EVIDENCE
from ringfence.model.permission import Permission
from scripts.reference.text import code, doc, document, prose, table


def page() -> str:
    permissions = [one for action in ACTIONS.values() for one in action.permissions] + list(EVIDENCE)
    return document(
        "Actions and permissions",
        "What this version can do to a cluster, and every right that it asks for, each with its reason. `ringfence "
        "doctor -n NAMESPACE` asks the cluster which of these the current user has.",
        "Ringfence acts as the user of the kubeconfig. It never reads a Secret, never runs anything in a container, "
        "and installs nothing.",
        *(_action(name, action) for name, action in ACTIONS.items()),
        "## Evidence",
        "What the collectors read. A right that is missing here does not stop the cut: the item is listed as denied, "
        "with the server's words.",
        _table(EVIDENCE),
        "## As RBAC",
        "`ringfence-responder` is bound with a RoleBinding in each namespace that Ringfence may respond in, "
        "`ringfence-responder-everywhere` with a ClusterRoleBinding.",
        "`create` on `serviceaccounts/token` can mint a token of any account in the namespace. It is there for the "
        "canary that shows that a deleted pod's token is refused; leave it out, and that row stays unseen "
        "([decision 5](../decisions/0005-token-canary-at-eradication.md)).",
        f"```yaml\n{rbac(permissions)}```",
    )


def _action(name: str, action: type[Action]) -> str:
    kind = "destructive: runs only behind the evidence gate" if action.destructive else "reversible in part"
    words = prose(sys.modules[action.__module__].__doc__ or "")
    title = words.split(": ", 1)[1]
    return f"## {name}\n\n{title[0].upper()}{title[1:]}\n\n{doc(action)} Kind: {kind}.\n\n" + _table(action.permissions)


def _table(permissions: Iterable[Permission]) -> str:
    return table(
        ("resource", "verbs", "where", "because"),
        [
            (
                code(one.resource),
                ", ".join(sorted(one.verbs)),
                "whole cluster" if one.everywhere else "the target's namespace",
                one.because,
            )
            for one in permissions
        ],
    )


def rbac(permissions: Iterable[Permission]) -> str:
    """Two ClusterRoles in YAML with each rule's reason as a comment."""
    known = tuple(dict.fromkeys(permissions))
    roles = (
        _role("ringfence-responder", [one for one in known if not one.everywhere]),
        _role("ringfence-responder-everywhere", [one for one in known if one.everywhere]),
    )
    return "---\n".join("\n".join(lines) + "\n" for lines in roles)


def _role(name: str, permissions: Iterable[Permission]) -> Iterator[str]:
    yield "apiVersion: rbac.authorization.k8s.io/v1"
    yield "kind: ClusterRole"
    yield "metadata:"
    yield f"  name: {name}"
    yield "rules:"
    for one in permissions:
        yield f"  # {one.because}"
        yield f'  - apiGroups: ["{one.group}"]'
        yield f"    resources: [{one.plural}]"
        yield f"    verbs: [{', '.join(sorted(one.verbs))}]"
