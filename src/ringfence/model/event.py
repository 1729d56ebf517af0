"""What every event of the timeline has."""

from ringfence.model.base import Instant, Noun


class EventBase(Noun):
    """``occurred_at`` is when the fact happened; ``actor`` a principal's id, or ``ringfence``."""

    occurred_at: Instant
    actor: str
