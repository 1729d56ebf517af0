"""Starts one service by its name."""

from __future__ import annotations

import sys

from . import accounts, cards, gateway, ledger, loans

SERVICES = {
    "gateway": gateway.main,
    "accounts": accounts.main,
    "cards": cards.main,
    "cards-config-check": cards.check_configuration,
    "loans": loans.main,
    "ledger": ledger.main,
}


def main(arguments: list[str]) -> int:
    if len(arguments) != 1 or arguments[0] not in SERVICES:
        print(f"usage: main.py SERVICE, one of {', '.join(SERVICES)}", file=sys.stderr)
        return 2
    return SERVICES[arguments[0]]()


sys.exit(main(sys.argv[1:]))
