"""A clock that jumps: what this process takes for the time of day is moved, as by a hypervisor or a wrong NTP server.

What measures how long something takes (``time.monotonic``) goes on, as it does in life.
"""

from __future__ import annotations

import datetime as datetimes
import sys
import time
from datetime import datetime, timedelta, tzinfo

_real, _time = datetime, time.time
_offset = 0.0


class _Meta(type):
    def __instancecheck__(cls, value: object) -> bool:
        return isinstance(value, _real)


class _Clock(datetime, metaclass=_Meta):
    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
        return _real.now(tz) + timedelta(seconds=_offset)


def install() -> None:
    """From now on this process's time can be moved. There is no way back."""
    for name, module in list(sys.modules.items()):
        if name.startswith("ringfence.") and getattr(module, "datetime", None) is _real:
            module.datetime = _Clock  # type: ignore[attr-defined]
    time.time = lambda: _time() + _offset


def jump(seconds: float) -> None:
    global _offset
    _offset += seconds


assert datetimes.datetime is _real
