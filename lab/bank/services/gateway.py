"""The front door: one overview from three services, and everything below ``/cards/`` passed on to cards."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from .http import Reply, Request, Route, serve
from .upstream import Upstream

# Less than the two seconds that a customer waits.
ACCOUNTS = Upstream("accounts", seconds=1.4)
CARDS = Upstream("cards", seconds=1.4)
LOANS = Upstream("loans", seconds=1.4)

# A pool each, so that one service that hangs does not take the others' threads.
_pools = {upstream.name: ThreadPoolExecutor(max_workers=32) for upstream in (ACCOUNTS, CARDS, LOANS)}


def overview(request: Request) -> Reply:
    """All that a customer has; an answer only when every part is there."""
    customer = request.match["customer"]
    parts = {
        upstream.name: _pools[upstream.name].submit(upstream.get_json, f"/{upstream.name}/{customer}", request.trace)
        for upstream in (ACCOUNTS, CARDS, LOANS)
    }
    return Reply.of({"customer": int(customer), **{name: part.result() for name, part in parts.items()}})


def cards(request: Request) -> Reply:
    query = f"?{request.raw_query}" if request.raw_query else ""
    return CARDS.get(f"{request.path}{query}", request.trace)


def main() -> int:
    routes = (Route(r"/overview/(?P<customer>[0-9]{1,6})", overview), Route(r"/cards/[\w/.-]+", cards))
    return serve("gateway", routes)
