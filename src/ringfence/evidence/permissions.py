"""What the collectors read, and why. Secrets are not among it."""

from __future__ import annotations

from ringfence.model.permission import Permission

_READ = frozenset({"get"})
_LIST = frozenset({"list"})

PERMISSIONS = (
    Permission("pods/log", _READ, "logs of every container"),
    Permission("pods", _LIST, "siblings by image digest and by account", everywhere=True),
    Permission("events", _LIST, "events about the pod, wherever they were written", everywhere=True),
    Permission("events.events.k8s.io", _LIST, "the same in the newer API", everywhere=True),
    Permission("nodes", _READ, "the node that the pod runs on", everywhere=True),
    Permission("namespaces", _READ, "the pod's namespace, and kube-system for the cluster's identity", everywhere=True),
    Permission("serviceaccounts", _READ, "the account that the pod runs as"),
    Permission("rolebindings.rbac.authorization.k8s.io", _LIST, "what the account may do"),
    Permission("clusterrolebindings.rbac.authorization.k8s.io", _LIST, "what the account may do", everywhere=True),
    Permission("serviceaccounts/token", frozenset({"create"}), "the canary that shows that the pod's token is dead"),
)
