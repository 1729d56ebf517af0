"""A real HTTP request to a pod, through the API server's proxy (``pods/proxy``, Kubernetes API reference, Pod v1).

It shows that the program answers, not that customers reach it: Services and NetworkPolicies are not on that way.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

from ringfence.errors import Denied, NotSent, PlatformError, Unanswered
from ringfence.model.base import Json
from ringfence.platform.kubernetes.client import Cluster
from ringfence.platform.kubernetes.pods import containers
from ringfence.platform.kubernetes.resources import POD

_SECONDS = 3.0
_SUCCESS = range(200, 400)
_UNREACHED = "error trying to reach service"
"""The API server's own words (k8s.io/apimachinery, ``util/proxy``) when nothing listens, or nothing lets it pass."""


@dataclass(frozen=True)
class Way:
    """Where a pod is asked: its port, ``https`` or not, a path that begins with ``/``."""

    port: int
    path: str
    https: bool = False

    def __str__(self) -> str:
        return f"GET :{self.port}{self.path}"


@dataclass(frozen=True)
class Said:
    """``status`` is the HTTP status; 0 when there was no answer, and ``why`` says so. ``tried`` is False when the
    request is not allowed, or policies keep the API server away: nothing is known of the pod then."""

    way: Way
    status: int
    why: str = ""
    tried: bool = True

    @property
    def is_good(self) -> bool:
        """As the kubelet's probes count: 200 to 399."""
        return self.status in _SUCCESS


def way_of(pod: Json, path: str = "") -> Way | None:
    """Where to ask a pod: as its own probes do; ``path`` on the port of that, or of the first port that it names.

    None when neither a probe nor a port says where, or only a path that nobody gave is missing.
    """
    port = 0
    for container in containers(pod, ("containers",)):
        named = {str(one.get("name")): int(one["containerPort"]) for one in container.spec.get("ports") or ()}
        for probe in ("readinessProbe", "livenessProbe", "startupProbe"):
            get = (container.spec.get(probe) or {}).get("httpGet") or {}
            number = get.get("port")
            found = number if isinstance(number, int) else named.get(str(number), 0)
            if found:
                https = str(get.get("scheme", "")).upper() == "HTTPS"
                return Way(found, path or str(get.get("path") or "/"), https)
        port = port or next(iter(named.values()), 0)
    return Way(port, path) if port and path else None


def ask(cluster: Cluster, pod: Json, way: Way, *, shielded: bool = False) -> Said:
    """Send one GET, for three seconds. Raises nothing of the platform: whatever comes back is an answer.

    ``shielded``: NetworkPolicies isolate the pod, so that silence may be theirs and not the pod's.
    """
    meta = pod["metadata"]
    name = f"{'https:' if way.https else ''}{meta['name']}:{way.port}"
    path = POD.path(meta["namespace"], name, f"proxy{quote(way.path, safe='/?&=%:+,;@-._~')}")
    try:
        cluster.send_once("GET", path, verb="get", target=f"pods/proxy {meta['name']}", seconds=_SECONDS)
    except Denied as error:
        return Said(way, 0, str(error), tried=False)
    except NotSent as error:
        return Said(way, 0, str(error), tried=False)
    except PlatformError as error:
        silent = isinstance(error, Unanswered) and not error.status
        if shielded and (silent or _UNREACHED in str(error)):
            return Said(way, 0, "NetworkPolicies isolate the pod, and the API server did not get through", tried=False)
        return Said(way, int(error.status or 0), str(error))
    return Said(way, 200)
