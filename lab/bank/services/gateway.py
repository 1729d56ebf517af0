"""The front door: one overview from three services, and everything below ``/cards/`` passed on to cards."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from .http import Reply, Request, Route, serve
from .upstream import Upstream

# Two tries of each fit into the two seconds that a customer waits.
ACCOUNTS = Upstream("accounts", seconds=0.7)
CARDS = Upstream("cards", seconds=0.7)
LOANS = Upstream("loans", seconds=0.7)

_pool = ThreadPoolExecutor(max_workers=32)


def overview(request: Request) -> Reply:
    """All that a customer has; an answer only when every part is there."""
    customer = request.match["customer"]
    parts = {
        "accounts": _pool.submit(ACCOUNTS.get_json, f"/accounts/{customer}", request.trace),
        "cards": _pool.submit(CARDS.get_json, f"/cards/{customer}", request.trace),
        "loans": _pool.submit(LOANS.get_json, f"/loans/{customer}", request.trace),
    }
    return Reply.of({"customer": int(customer), **{name: part.result() for name, part in parts.items()}})


def cards(request: Request) -> Reply:
    query = f"?{request.raw_query}" if request.raw_query else ""
    return CARDS.get(f"{request.path}{query}", request.trace)


def main() -> int:
    routes = (Route(r"/overview/(?P<customer>[0-9]{1,6})", overview), Route(r"/cards/[\w/.-]+", cards))
    return serve("gateway", routes)
