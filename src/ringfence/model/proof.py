"""How well a claim is shown. Four levels that are never mixed."""

from enum import StrEnum

from ringfence.model.base import Instant, Noun


class Level(StrEnum):
    """Each level says who vouches."""

    NONE = "none"
    """Nobody: not looked at yet."""
    REQUESTED = "requested"
    """The API accepted the request."""
    COMPUTED = "computed"
    """Read back, and our own evaluation of the server's state says so."""
    OBSERVED = "observed"
    """Someone else says so: kubelet, EndpointSlice, CNI status, a drop counter, the audit log."""
    PROVEN = "proven"
    """A canary's packet, call or admission was refused."""

    @property
    def rank(self) -> int:
        return list(Level).index(self)


class Proof(Noun):
    """A claim with its level, who vouches, and why not higher (empty only at ``proven``)."""

    claim: str
    level: Level
    by: str
    at: Instant
    why_not_higher: str = ""
