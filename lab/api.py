"""A few requests to the API server as the administrator, for starting and status; no client library needed."""

from __future__ import annotations

import http.client
import json
import ssl
from typing import Any

from lab import certificates
from lab.layout import Lab

TIMEOUT_SECONDS = 5.0


def get(lab: Lab, path: str) -> dict[str, Any] | None:
    """The object at ``path``, or None when there is none or the API server does not answer (yet)."""
    answer = _request(lab, path)
    if answer is None or answer[0] != http.HTTPStatus.OK:
        return None
    content: dict[str, Any] = json.loads(answer[1])
    return content


def ready(lab: Lab) -> bool:
    """Whether /readyz says ok: every part of the API server has started, bootstrap roles included."""
    answer = _request(lab, "/readyz")
    return answer is not None and answer[0] == http.HTTPStatus.OK


def _request(lab: Lab, path: str) -> tuple[int, bytes] | None:
    try:
        context = ssl.create_default_context(cafile=str(certificates.certificate(lab, "ca")))
        context.load_cert_chain(certificates.certificate(lab, "admin"), certificates.key(lab, "admin"))
        connection = http.client.HTTPSConnection("127.0.0.1", lab.api_port, timeout=TIMEOUT_SECONDS, context=context)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()
    except (OSError, http.client.HTTPException):
        return None
