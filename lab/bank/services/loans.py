"""Loans: fixed terms by customer number; calls nobody."""

from __future__ import annotations

import os

from .http import Reply, Request, Route, serve

TERMS_MONTHS = (24, 36, 60, 120)


def loans(request: Request) -> Reply:
    """Every third customer has one loan; the monthly rate is that of an annuity."""
    customer = int(request.match["customer"])
    if customer % 3:
        return Reply.of([])
    months = TERMS_MONTHS[customer % len(TERMS_MONTHS)]
    principal_cents = 500_000 + customer * 1_700
    interest = float(os.environ.get("ANNUAL_INTEREST_PERCENT", "4.2")) / 1200
    rate_cents = round(principal_cents * interest / (1 - (1 + interest) ** -months))
    return Reply.of([{"principal_cents": principal_cents, "months": months, "monthly_rate_cents": rate_cents}])


def main() -> int:
    return serve("loans", (Route(r"/loans/(?P<customer>[0-9]{1,6})", loans),))
