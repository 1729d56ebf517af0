"""Whether the monitoring that the night relies on answers: Prometheus, Alertmanager, Grafana."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ringfence.errors import PlatformError
from ringfence.platform import http
from ringfence.response.readiness.findings import Finding, ok, warn

HEALTH = {"prometheus": "/-/ready", "alertmanager": "/-/ready", "grafana": "/api/health"}
"""Where each says that it is well, below its own address."""


def check_monitoring(urls: Mapping[str, str | None]) -> Iterator[Finding]:
    """``urls``: the address of each system of ``HEALTH``, None where it is not configured."""
    for name, path in HEALTH.items():
        url = urls.get(name)
        if not url:
            yield warn(name, "not configured", f"observability.{name}_url in the configuration, if there is one")
            continue
        yield _ask(name, url.rstrip("/") + path)


def _ask(name: str, url: str) -> Finding:
    shown = http.without_credentials(url)
    try:
        reply = http.get(url)
    except PlatformError as error:
        return warn(name, str(error), error.next_step)
    if reply.status == 200:
        return ok(name, f"{shown} answers")
    if reply.status in (401, 403):
        return ok(name, f"{shown} answers, and asks for a login ({reply.status})")
    return warn(name, f"{shown} answers with {reply.status}", "look at it: it is not well")
