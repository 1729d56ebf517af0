"""Where anchors go, from the configuration, and what keeps after copies, stamps and anchors that are missing."""

from __future__ import annotations

import functools
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING

from ringfence import app as wiring
from ringfence.config import Config
from ringfence.evidence.anchoring import Anchorer, GitPlace, Place, S3Place
from ringfence.platform.git import Branch
from ringfence.store.database import Store

if TYPE_CHECKING:
    from ringfence.platform.s3 import Bucket
    from ringfence.response.upkeep import Upkeep


def anchorer(config: Config, store: Store) -> Anchorer | None:
    """What anchors heads; None when no place is configured. Nothing is sent yet."""
    places: list[Place] = []
    if (bucket := config.anchor.s3) is not None:
        prefix = bucket.prefix.strip("/")

        def connect() -> Bucket:
            from ringfence.platform.s3 import Bucket

            return Bucket(bucket.bucket, region=bucket.region, endpoint_url=bucket.endpoint_url)

        places.append(
            S3Place(
                name=bucket.place,
                connect=functools.cache(connect),
                prefix=f"{prefix}/" if prefix else "",
                mode="" if bucket.object_lock == "none" else bucket.object_lock.upper(),
                retain_days=bucket.retain_days,
                legal_hold=bucket.legal_hold,
            )
        )
    if (git := config.anchor.git) is not None:
        places.append(GitPlace(Branch(git.repository, git.branch, git.seconds), git.place))
    if not places:
        return None
    return Anchorer(store, functools.cache(lambda: wiring.signing_key(config)), tuple(places))


def upkeep(config: Config, store: Store, actor: str, say: Callable[[str], None]) -> Upkeep:
    from ringfence.response.upkeep import Upkeep

    return Upkeep(
        store,
        copier=wiring.copier(config, store),
        stamper=wiring.stamper(config, store),
        anchorer=anchorer(config, store),
        anchor_every=timedelta(minutes=config.anchor.every_minutes),
        actor=actor,
        say=say,
    )
