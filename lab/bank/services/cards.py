"""Credit cards, and statements in a form that the caller chooses.

``/cards/statement?customer=N&format=TEXT`` fills ``${expression}`` in the text. The expressions are evaluated by
Python: a template engine written in a hurry, and the bank's hole. It is deliberate; the lab's attacks come in by it.
The image of the mended bank sets ``STATEMENT_FORMATS=names``: what a caller writes is then no Python any more.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

from . import log
from .http import HttpError, Reply, Request, Route, serve
from .upstream import Upstream

LEDGER = Upstream("ledger", seconds=1.0)
EXPRESSION = re.compile(r"\$\{(.+?)\}", re.DOTALL)
REQUIRED_SETTINGS = ("scheme", "limit_cents", "statement_format")


class BadConfiguration(Exception):
    """The configuration cannot be used; the text says which file and why."""


def load_configuration(folder: Path) -> dict[str, Any]:
    """``cards.json`` of the mounted ConfigMap.

    Raises:
        BadConfiguration: it is missing, not JSON, or lacks a setting.
    """
    file = folder / "cards.json"
    try:
        settings: dict[str, Any] = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise BadConfiguration(f"{file}: {error}") from error
    if missing := [name for name in REQUIRED_SETTINGS if name not in settings]:
        raise BadConfiguration(f"{file} lacks {', '.join(missing)}")
    return settings


def cards(request: Request) -> Reply:
    return Reply.of([_card(int(request.match["customer"]), request.trace)])


def statement(request: Request) -> Reply:
    customer = request.query.get("customer", "")
    if not customer.isdecimal():
        raise HttpError(400, "customer must be a number")
    card = _card(int(customer), request.trace)
    chosen = request.query.get("format")
    if chosen and os.environ.get("STATEMENT_FORMATS") == "names":
        text = fill(chosen, card)
    else:
        text = render(chosen or _settings["statement_format"], card)
    return Reply(200, text.encode(), "text/plain; charset=utf-8")


def render(text: str, values: dict[str, Any]) -> str:
    """Fills in each ``${expression}``, for example ``${balance_cents / 100}``."""
    return EXPRESSION.sub(lambda match: str(eval(match[1], dict(values))), text)


def fill(text: str, values: dict[str, Any]) -> str:
    """Fills in each ``${name}``; anything else that stands there is left out."""
    return EXPRESSION.sub(lambda match: str(values.get(match[1].strip(), "")), text)


def _card(customer: int, trace: str) -> dict[str, Any]:
    balance = LEDGER.get_json(f"/balances/{customer}", trace)["card"]
    limit = _settings["limit_cents"]
    return {
        "number": f"4000 00** **** {customer % 10_000:04d}",
        "scheme": _settings["scheme"],
        "balance_cents": balance,
        "available_cents": max(limit - balance, 0),
    }


def _folder() -> Path:
    return Path(os.environ.get("CARDS_CONFIG", "/etc/cards"))


def check_configuration() -> int:
    """The init container: stops the rollout of a configuration that the service could not start with."""
    log.name_service("cards-config-check")
    try:
        settings = load_configuration(_folder())
    except BadConfiguration as error:
        log.write("error", "configuration refused", error=str(error))
        return 1
    log.write("info", "configuration accepted", settings=sorted(settings))
    return 0


_settings: dict[str, Any] = {}


def main() -> int:
    log.name_service("cards")
    try:
        _settings.update(load_configuration(_folder()))
    except BadConfiguration as error:
        log.write("error", "cannot start", error=str(error))
        return 1
    if not os.environ.get("CARDS_DB_PASSWORD"):
        log.write("error", "cannot start", error="CARDS_DB_PASSWORD is not set")
        return 1
    return serve("cards", (Route(r"/cards/(?P<customer>[0-9]{1,6})", cards), Route(r"/cards/statement", statement)))
