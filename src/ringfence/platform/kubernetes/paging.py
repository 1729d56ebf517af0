"""A collection page by page (``limit`` and ``continue``), as large as one answer may be, altogether."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from ringfence.errors import NotFound
from ringfence.model.base import Json
from ringfence.platform.kubernetes import answers, failures
from ringfence.platform.kubernetes.resources import Resource

if TYPE_CHECKING:
    from ringfence.platform.kubernetes.client import Cluster

_PAGE = 500


def pages(
    cluster: Cluster,
    read: Callable[[bytes, str], Json],
    resource: Resource,
    namespace: str = "",
    labels: str = "",
    fields: str = "",
) -> Iterator[tuple[bytes, Json]]:
    """Each page as it was sent, and as ``read`` understood it. Raises Denied, NotFound, NotSent, Unanswered."""
    query: dict[str, str] = {"limit": str(_PAGE)}
    if labels:
        query["labelSelector"] = labels
    if fields:
        query["fieldSelector"] = fields
    target = failures.described(resource, namespace)
    room, accept = cluster.max_answer_bytes, answers.accepted(resource, "List")
    while True:
        try:
            where = resource.path(namespace)
            answer = cluster.send("GET", where, verb="list", target=target, query=query, accept=accept)
        except NotFound as error:
            if error.status != 410:
                raise
            raise failures.expired(target, error) from error
        room -= len(answer.content)
        if room < 0:
            too_large = answers.TooLarge(answers.too_large(cluster.max_answer_bytes))
            raise failures.from_exception(too_large, verb="list", target=target, audit_id="", server=cluster.server)
        page = read(answer.content, resource.plural)
        token = answers.next_page(page)
        yield answer.content, page
        if not token:
            return
        if token == query.get("continue"):
            raise answers.malformed("is the same page again", "list", target)
        query["continue"] = token
