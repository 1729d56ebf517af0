"""The evidence gate (pure): nothing that cannot come back is destroyed without a fresh, complete seal of it.

No playbook and no command can switch it off; a named person can break the glass, with a reason that stands at the top
of the report.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from ringfence.model.evidence import Seal
from ringfence.model.objects import ObjectRef

_SKEW = timedelta(seconds=5)


def shut_because(
    destroys: Iterable[ObjectRef], seals: Iterable[Seal], *, now: datetime, max_age_seconds: int
) -> tuple[str, ...]:
    """Why the gate is shut, one sentence per object; empty when it is open.

    Each object that will die needs a seal of that very object (uid), complete, and not older than ``max_age_seconds``.
    An object without a uid, or a plan that destroys nothing it can name, keeps the gate shut. ``seals`` come in the
    order in which they were made.
    """
    known = tuple(seals)
    doomed = tuple(destroys)
    if not doomed:
        return ("the plan does not say what it destroys",)
    return tuple(why for ref in doomed if (why := _why(ref, known, now, timedelta(seconds=max_age_seconds))))


def _why(ref: ObjectRef, seals: tuple[Seal, ...], now: datetime, max_age: timedelta) -> str:
    of_object = [seal for seal in seals if ref.uid and seal.subject_uid == ref.uid]
    if not of_object:
        return f"{ref} has no seal"
    complete = [seal for seal in of_object if seal.complete]
    if not complete:
        return f"{ref} has no complete seal: {of_object[-1].why_incomplete}"
    # A seal from the future is a clock that jumped: its age is not known, nor that of any before it.
    known: list[Seal] = []
    for seal in complete:
        newest = max(seal.sealed_at, seal.acquired_at or seal.sealed_at)
        known = [] if newest - now > _SKEW else [*known, seal]
    if not known:
        return f"the newest seal of {ref} is from the future: a clock has jumped"
    age = now - max(map(_as_of, known))
    if age > max_age:
        return f"the newest seal of {ref} is {int(age.total_seconds())} s old, {int(max_age.total_seconds())} s allowed"
    return ""


def _as_of(seal: Seal) -> datetime:
    """How things stood when the evidence was taken, not when it was put into a bundle."""
    return min(seal.sealed_at, seal.acquired_at or seal.sealed_at)
