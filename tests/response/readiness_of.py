"""What tests of ``doctor`` need beside the simulator: an authoriser, and admission that says no in others' words."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from ringfence.platform.kubernetes.resources import DEPLOYMENT
from tests.simulator import Simulator
from tests.small_bank import CARDS, pod_body
from tests.wire import Answer, Request, Responder

Json = dict[str, Any]


def may(api: Simulator, allowed: Callable[[Json], bool]) -> Responder:
    """The simulator with an authoriser that answers SelfSubjectAccessReviews and echoes Audit-IDs."""

    def answer(request: Request) -> Answer:
        if request.path.endswith("/selfsubjectaccessreviews"):
            body = json.loads(request.body)
            body["status"] = {"allowed": allowed(body["spec"]["resourceAttributes"])}
            return Answer(201, json.dumps(body).encode())
        found = api(request)
        echo = {"Audit-ID": request.headers["audit-id"]} if "audit-id" in request.headers else {}
        return Answer(found.status, found.body, {**found.headers, **echo}, found.delay, found.sends)

    return answer


def with_templates(api: Simulator) -> None:
    """The small bank's Deployments as a server would have them: none is without a template."""
    for deployment in api.all(DEPLOYMENT):
        deployment["spec"]["template"] = {"metadata": {"labels": dict(CARDS)}, "spec": pod_body()["spec"]}
