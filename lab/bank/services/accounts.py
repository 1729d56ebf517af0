"""Current and savings accounts; balances come from the ledger."""

from __future__ import annotations

import os

from .http import Reply, Request, Route, serve
from .upstream import Upstream

LEDGER = Upstream("ledger", seconds=1.0)


def accounts(request: Request) -> Reply:
    customer = int(request.match["customer"])
    balances = LEDGER.get_json(f"/balances/{customer}", request.trace)
    currency = os.environ.get("CURRENCY", "EUR")
    found = [
        {"iban": iban(customer, number), "product": product, "balance_cents": balances[product], "currency": currency}
        for number, product in enumerate(("current", "savings"), start=1)
    ]
    return Reply.of(found)


def iban(customer: int, number: int) -> str:
    """A German IBAN of a bank code that nobody has (ISO 13616: check digits make the number 1 modulo 97)."""
    account = f"99999999{customer:08d}{number:02d}"
    check = 98 - int(f"{account}131400") % 97
    return f"DE{check:02d}{account}"


def main() -> int:
    return serve("accounts", (Route(r"/accounts/(?P<customer>[0-9]{1,6})", accounts),))
