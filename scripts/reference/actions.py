"""``docs/reference/actions.md``: the actions, what they may do and why, and the same as RBAC."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from ringfence.actions.base import Action
from ringfence.actions.canary import Canary
from ringfence.actions.node_helper import NodeCut, NodeFreeze
from ringfence.actions.rbac import permissions_of
from ringfence.actions.registry import ACTIONS
from ringfence.cli.manifests import rights
from ringfence.evidence.permissions import PERMISSIONS as EVIDENCE
from ringfence.model.permission import Permission
from ringfence.response.permissions import READING, REHEARSAL
from scripts.reference.text import code, doc, document, prose, table


def page() -> str:
    return document(
        "Actions and permissions",
        "What this version can do to a cluster, and every right that it asks for, each with its reason. `ringfence "
        "doctor -n NAMESPACE` asks the cluster which of these the current user has, and tries each action in dry runs. "
        "`ringfence actions show NAME` prints a section of this page.",
        "Ringfence acts as the user of the kubeconfig. It never reads a Secret, never runs anything in a container, "
        "and installs nothing.",
        *(_action(name, action) for name, action in ACTIONS.items()),
        *([] if Canary.name in ACTIONS else [_action(Canary.name, Canary)]),
        f"## {NodeCut.name}, {NodeFreeze.name}",
        _words(NodeCut),
        "Kind: reversible, by `node.uncut` and `node.thaw`. Its rights are rendered by `ringfence rbac --node-helper` "
        "alone, and are to exist only while it is on ([task](../tasks/cut-on-the-node.md)).",
        _table(NodeCut.permissions, place="the helper's own namespace"),
        "## Evidence",
        "What the collectors read. A right that is missing here does not stop the cut: the item is listed as denied, "
        "with the server's words.",
        _table(EVIDENCE),
        "## Everything else that is read",
        "The statement of ways in, the objects that a name means, and what `doctor` looks at.",
        _table((*READING, *REHEARSAL)),
        "## As RBAC",
        "`ringfence rbac` renders this for the actions that are enabled (`actions.enabled` in the "
        "[configuration](configuration.md#actions)); `--service-account NS/NAME` adds the bindings. Here as it is with "
        "`-n NAMESPACE`: `ringfence-responder` is bound with a RoleBinding in each such namespace, "
        "`ringfence-responder-everywhere` with a ClusterRoleBinding. Without `-n` it is one ClusterRole for the whole "
        f"cluster. The rights of `{Canary.name}` are rendered only where `canary.image` is set.",
        "`create` on `serviceaccounts/token` can mint a token of any account in the namespace. It is there for the "
        "canary that shows that a deleted pod's token is refused; leave it out, and that row stays unseen "
        "([decision 5](../decisions/0005-token-canary-at-eradication.md)).",
        f"```yaml\n{_rbac()}```",
    )


def _action(name: str, action: type[Action[Any]]) -> str:
    kind = "destructive: runs only behind the evidence gate" if action.destructive else "reversible in part"
    return f"## {name}\n\n{_words(action)}\n\n{doc(action)} Kind: {kind}.\n\n" + _table(action.permissions)


def _words(action: type[Action[Any]]) -> str:
    """What its module says of itself, behind the name."""
    title = prose(sys.modules[action.__module__].__doc__ or "").split(": ", 1)[1]
    return title[0].upper() + title[1:]


def _table(permissions: Iterable[Permission], place: str = "the target's namespace") -> str:
    return table(
        ("resource", "verbs", "where", "because"),
        [
            (
                code(one.resource),
                ", ".join(sorted(one.verbs)),
                "whole cluster" if one.everywhere else place,
                one.because,
            )
            for one in permissions
        ],
    )


def _rbac() -> str:
    asked = permissions_of(ACTIONS.values(), (*READING, *EVIDENCE, *REHEARSAL))
    return rights("ringfence-responder", asked, namespaces=("bank",)).to_yaml()
