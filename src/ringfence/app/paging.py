"""Who is paged, from the configuration; no secret is read before a page goes out."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from ringfence.config import Config
from ringfence.errors import ConfigError

if TYPE_CHECKING:
    from ringfence.config import Receiver as ConfiguredReceiver
    from ringfence.response.paging import Rota


def rota(config: Config) -> Rota:
    """Who is paged. Reads no secret yet."""
    from datetime import timedelta

    from ringfence.model.page import PageKind
    from ringfence.response.paging import Receiver, Rota

    roles = tuple(contact.role for contact in config.contacts)
    kinds = frozenset(kind.value for kind in PageKind)
    return Rota(
        receivers=tuple(
            Receiver(
                name=one.name,
                url=functools.partial(_secret_url, one),
                roles=frozenset(word for word in one.wanted if word in roles),
                kinds=frozenset(PageKind(word) for word in one.wanted if word in kinds and word not in roles),
                min_severity=one.min_severity,
            )
            for one in config.notify.to
        ),
        contacts=roles,
        escalate_after=timedelta(minutes=config.notify.escalate_minutes),
    )


def _secret_url(receiver: ConfiguredReceiver) -> str:
    """The Apprise URL, read anew each time: a rotated secret is taken up. Raises ConfigError without showing it."""
    if receiver.url is not None:
        return receiver.url.get_secret_value().strip()
    assert receiver.url_file is not None
    try:
        return receiver.url_file.expanduser().read_text().strip()
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"the URL of the receiver {receiver.name} cannot be read",
            location=f"notify.to {receiver.name}",
            why=error.strerror or "" if isinstance(error, OSError) else "it is no text",
            next_step=f"check {receiver.url_file}",
        ) from error
