"""What a network canary found: each path that it tried, before, behind and after the fence.

A refused try alone proves nothing: the other side may be down. So each path is tried three times: without the fence,
behind it, and without it again. Only one that was open, shut and open again was shut by the fence.
"""

from collections.abc import Iterable
from enum import StrEnum
from typing import Literal, Self

from pydantic import model_validator

from ringfence.model.base import Instant, Noun
from ringfence.model.objects import ObjectRef

Row = Literal["network.egress", "network.ingress", "network.dns"]
"""The row of the residual-access statement that a path belongs to."""


class Seen(StrEnum):
    """What became of a path's tries in one phase."""

    OPEN = "open"
    SHUT = "shut"
    NOT_SEEN = "not-seen"
    """Too few tries, or an answer that is not the other side's: neither open nor shut."""


class CanaryResult(StrEnum):
    """What the tries of a path show. The words are those of the timeline's ``canary.tried``."""

    ACCEPTED = "accepted"
    """A packet got through behind the fence."""
    REFUSED = "refused"
    """Open without the fence, shut behind it, open again without it."""
    NOT_POSSIBLE = "not-possible"


class CanaryPath(Noun):
    """One way out of the canary or into it. ``way`` names it in words, safe for a terminal.

    ``at`` is when the tries behind the fence were read (of a path that never came so far: when it was given up).
    """

    row: Row
    way: str
    control: Seen = Seen.NOT_SEEN
    fenced: Seen = Seen.NOT_SEEN
    again: Seen = Seen.NOT_SEEN
    at: Instant

    @property
    def result(self) -> CanaryResult:
        if self.fenced is Seen.OPEN:
            return CanaryResult.ACCEPTED
        if (self.control, self.fenced, self.again) == (Seen.OPEN, Seen.SHUT, Seen.OPEN):
            return CanaryResult.REFUSED
        return CanaryResult.NOT_POSSIBLE

    @property
    def why(self) -> str:
        """Why the path could not be tried; empty when it could."""
        if self.result is not CanaryResult.NOT_POSSIBLE:
            return ""
        if self.control is not Seen.OPEN:
            return "not open without the fence either"
        if self.fenced is not Seen.SHUT:
            return "no clear answer behind the fence"
        return "it did not open again without the fence, so something else may have shut it"


class CanaryReport(Noun):
    """One examination of one pod's fence.

    ``canary`` is the opaque id that its objects carried. ``basis`` is a fingerprint of what was examined: the pod, its
    labels and node, and the policies that select it; when it is another one by now, the report says nothing about the
    fence any more. ``why`` says why nothing could be shown (then ``paths`` count for nothing). ``notes`` are what was
    left out or done otherwise. ``left_behind`` names objects of the canary that were not seen to be gone.
    """

    target: ObjectRef
    canary: str
    image: str
    node: str
    basis: str
    started_at: Instant
    ended_at: Instant
    paths: tuple[CanaryPath, ...] = ()
    why: str = ""
    notes: tuple[str, ...] = ()
    left_behind: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not self.paths and not self.why:
            raise ValueError("a canary that tried nothing says why")
        return self

    @property
    def tried_at(self) -> Instant:
        """When the tries behind the fence were read; the end, when none were."""
        return max((path.at for path in self.paths), default=self.ended_at)

    def of(self, rows: Iterable[str], result: CanaryResult) -> tuple[CanaryPath, ...]:
        """The paths of these rows with that result; none when nothing could be shown."""
        if self.why:
            return ()
        wanted = frozenset(rows)
        return tuple(path for path in self.paths if path.row in wanted and path.result is result)

    def result(self, row: Row) -> CanaryResult:
        """What the tries of one row come to: one accepted path decides, else one refused."""
        if self.of((row,), CanaryResult.ACCEPTED):
            return CanaryResult.ACCEPTED
        if self.of((row,), CanaryResult.REFUSED):
            return CanaryResult.REFUSED
        return CanaryResult.NOT_POSSIBLE
