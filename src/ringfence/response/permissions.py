"""What a response reads whatever it does: the statement of ways in, names and their pods, and what ``doctor`` looks at.

Actions and collectors list their own. SelfSubjectReview and SelfSubjectAccessReview need no rule: every user that the
cluster authenticates may ask them.
"""

from __future__ import annotations

from ringfence.actions.refresh import Refresh
from ringfence.model.permission import Permission

_GET = frozenset({"get"})
_LIST = frozenset({"list"})
_BOTH = _GET | _LIST

_WATCH = frozenset({"watch"})

READING = (
    Permission("pods", _BOTH, "the suspects, again and again, and the pods that a name or an image means"),
    Permission("networkpolicies.networking.k8s.io", _LIST, "whether the fence still holds"),
    Permission("services", _LIST, "what customers feel"),
    Permission("endpointslices.discovery.k8s.io", _LIST, "how many pods still serve"),
    Permission("rolebindings.rbac.authorization.k8s.io", _LIST, "what a suspect's account may do", everywhere=True),
    Permission("clusterrolebindings.rbac.authorization.k8s.io", _LIST, "what a suspect's account may do", True),
    Permission("roles.rbac.authorization.k8s.io", _GET, "what a suspect's account may do", everywhere=True),
    Permission("clusterroles.rbac.authorization.k8s.io", _GET, "what a suspect's account may do", everywhere=True),
    Permission("serviceaccounts", _GET, "whether the account of a suspect leads into the cloud"),
    Permission("deployments.apps", _GET, "a workload that is named, and who owns a pod"),
    Permission("replicasets.apps", _BOTH, "a workload that is named, who owns a pod, and the pods of a Deployment"),
    Permission("statefulsets.apps", _GET, "a workload that is named, and who owns a pod"),
    Permission("daemonsets.apps", _GET, "a workload that is named, and who owns a pod"),
    Permission("jobs.batch", _BOTH, "a workload that is named, who owns a pod, and the pods of a CronJob"),
    Permission("cronjobs.batch", _GET, "a workload that is named, and who owns a pod"),
    Permission("replicationcontrollers", _GET, "who owns a pod"),
    Permission("nodes", _GET, "a node that is named", everywhere=True),
    Permission("namespaces", _GET, "kube-system, whose uid is the cluster's identity", everywhere=True),
    Permission("scaledobjects.keda.sh", _LIST, "whether KEDA would scale up what was stopped"),
    Permission("scaledjobs.keda.sh", _GET, "who owns a Job"),
    Permission("applications.argoproj.io", _LIST, "whether Argo CD would put back what was changed", everywhere=True),
    *(
        Permission(resource, _WATCH | _LIST, "ringfence watch: whether somebody changes what is fenced")
        for resource in (
            "pods",
            "networkpolicies.networking.k8s.io",
            "deployments.apps",
            "statefulsets.apps",
            "daemonsets.apps",
        )
    ),
    Permission("nodes", _WATCH | _LIST, "ringfence watch: whether a cordoned node stays so", everywhere=True),
    Permission("pods", _LIST, "siblings, and the pods of an image, in every namespace", everywhere=True),
)

RECOVERY = (
    *Refresh.permissions,
    Permission("policyreports.wgpolicyk8s.io", _LIST, "recover: whether what was restored breaks a policy"),
)
REAL_REQUESTS = (
    Permission("pods/proxy", _GET, "recover: a real request to what was restored, before customers get it back"),
)

REHEARSAL = (
    Permission("deployments.apps", _LIST, "doctor: which workloads an action can be tried on"),
    Permission("replicasets.apps", _LIST, "doctor: which workloads an action can be tried on"),
    Permission("statefulsets.apps", _LIST, "doctor: which workloads an action can be tried on"),
    Permission("daemonsets.apps", _LIST, "doctor: which workloads an action can be tried on"),
    Permission("jobs.batch", _LIST, "doctor: which workloads an action can be tried on"),
    Permission("cronjobs.batch", _LIST, "doctor: which workloads an action can be tried on"),
    Permission("events", _LIST, "doctor: how long events are kept", everywhere=True),
)
