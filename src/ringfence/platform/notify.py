"""Sending one message to one Apprise URL. The URL is a secret: it is in no error, log or answer of this module.

Text comes from events and so, in part, from a cluster under attack: it is made one or two plain lines that mean nothing
to a chat's markup, mentions nobody, and carries no link that can be clicked.
"""

from __future__ import annotations

import contextlib
import logging
import re
import threading
import unicodedata
from collections.abc import Iterator
from typing import Any

from ringfence.errors import ConfigError

LONGEST_TITLE = 200
LONGEST_BODY = 1500
_MARKUP = str.maketrans({"<": "‹", ">": "›", "@": "＠", "`": "'", "*": "∗", "[": "(", "]": ")", "|": "¦", "~": "∼"})
_LINK = re.compile(r"(?i)\b([a-z][a-z0-9+.-]*):(?=//)|\b(www)\.")
_URL = re.compile(r"[a-z][a-z0-9+.-]*://\S+", re.IGNORECASE)
_SECRETS = re.compile(r"[^/?&=:@,+\s]{4,}")
_sending = threading.Lock()


def plain(text: str, longest: int) -> str:
    """One line of it that a receiver shows as it stands: no control, format or private characters, no markup, mention
    or link; what is too long is cut, and says so."""
    words = "".join(
        " " if character in "\n\r\t" else character
        for character in text
        if character in "\n\r\t" or unicodedata.category(character)[0] != "C"
    )
    words = _LINK.sub(lambda found: f"{found[1] or found[2]}_", " ".join(words.split())).translate(_MARKUP)
    return words if len(words) <= longest else f"{words[: longest - 1]}…"


def check(url: str, name: str) -> None:
    """Raises ConfigError, without the URL in it, when Apprise knows no such service or a part of it is missing."""
    if _instance(url) is None:
        raise ConfigError(
            f"the receiver {name} has no URL that Apprise knows",
            location=f"notify.to {name}",
            why="the service, or a part that it needs, is missing; the URL is not shown",
            next_step="see the list of services of Apprise; then ringfence notify test",
        )


def send(url: str, title: str, body: str, *, failure: bool = False) -> str:
    """Send it; empty when the receiver took it, else why not. Raises nothing: a page never stops what it is about.

    ``failure`` gives it the look of something bad where a service has such. Some seconds at most (Apprise's time-outs).
    """
    try:
        service = _instance(url)
        if service is None:
            return "Apprise knows no such service, or a part of the URL is missing"
        from apprise import NotifyFormat, NotifyType

        with _said() as said:
            taken = service.notify(
                body=plain(body, LONGEST_BODY),
                title=plain(title, LONGEST_TITLE),
                notify_type=NotifyType.FAILURE if failure else NotifyType.INFO,
                body_format=NotifyFormat.TEXT,
                interpret_escapes=False,
            )
    except Exception as error:  # whatever a plug-in lets through, a page that fails is only a page that fails
        return _without_secrets(f"{type(error).__name__}: {error}", url)
    if taken:
        return ""
    return _without_secrets(said[0] if said else "it was not taken", url)


def _instance(url: str) -> Any:
    # Imported where used: it takes a fifth of a second, and few commands page.
    from apprise import Apprise, AppriseAsset

    asset = AppriseAsset(
        app_id="Ringfence", app_desc="Ringfence", app_url="", async_mode=False, secure_logging=True, storage_path=None
    )
    with _said():
        service = Apprise(asset=asset)
        return service if service.add(url) else None


@contextlib.contextmanager
def _said() -> Iterator[list[str]]:
    """What Apprise says in its log while the block runs; nothing of it reaches a terminal."""
    said: list[str] = []

    class Keeper(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())

    log, keeper = logging.getLogger("apprise"), Keeper(logging.WARNING)
    with _sending:
        propagates, log.propagate = log.propagate, False
        log.addHandler(keeper)
        try:
            yield said
        finally:
            log.removeHandler(keeper)
            log.propagate = propagates


def _without_secrets(words: str, url: str) -> str:
    """The words without any URL, and without any part of ours, percent-encoded or not."""
    from urllib.parse import unquote

    words = _URL.sub("(a URL)", words)
    for part in sorted({*_SECRETS.findall(url), *map(unquote, _SECRETS.findall(url))}, key=len, reverse=True):
        words = words.replace(part, "(…)")
    return plain(words, LONGEST_TITLE)
