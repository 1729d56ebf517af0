"""What packets have shown of a cluster's NetworkPolicies, and when."""

from __future__ import annotations

from datetime import datetime, timedelta

from ringfence.model.base import Instant, Noun

_UNITS = (("d", timedelta(days=1)), ("h", timedelta(hours=1)), ("min", timedelta(minutes=1)))


class Enforcement(Noun):
    """Whether a deny-all held on one node, as ``doctor --probe`` saw it with throw-away pods; ``by`` ran it.

    Of another node, and of later, it says nothing: whoever uses it says when and where it was.
    """

    cluster: str
    holds: bool
    saw: str
    namespace: str
    node: str
    at: Instant
    by: str

    def words(self, now: datetime) -> str:
        """One line with its age."""
        held = "a deny-all held" if self.holds else "a deny-all DID NOT HOLD"
        return f"{held} on node {self.node} (doctor --probe in namespace {self.namespace}, {_age(now - self.at)} ago)"


def _age(length: timedelta) -> str:
    """In the largest unit of which there is one; less than a minute, or a clock that went back, is 0 min."""
    unit, one = next(((name, one) for name, one in _UNITS if length >= one), _UNITS[-1])
    return f"{max(0, length // one)} {unit}"
