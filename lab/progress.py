"""One short line for each step of the lab, with its duration.

On a terminal the line of a running step is rewritten in place; elsewhere (CI) a long step prints a line of its own
every 25 seconds, so that a silent log never looks like a hang.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

CI_INTERVAL = 25.0
TERMINAL_INTERVAL = 1.0


@contextmanager
def step(title: str, hint: str = "") -> Iterator[list[str]]:
    """Prints ``title`` and how long the block took. Append to the yielded list what is worth saying at the end.

    ``hint`` is shown while a long step runs (what it does, how long it takes the first time).
    """
    remarks: list[str] = []
    started = time.monotonic()
    done = threading.Event()
    terminal = sys.stdout.isatty()

    def tell() -> None:
        while not done.wait(TERMINAL_INTERVAL if terminal else CI_INTERVAL):
            line = f"{title} ... {time.monotonic() - started:.0f} s" + (f" ({hint})" if hint else "")
            print(f"\r\x1b[K{line}" if terminal else line, end="" if terminal else "\n", flush=True)

    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield remarks
        ending = ""
    except BaseException:
        ending = "failed "
        raise
    finally:
        done.set()
        teller.join()
        clear = "\r\x1b[K" if terminal else ""
        remark = f"  ({', '.join(remarks)})" if remarks else ""
        print(f"{clear}{title:<44}{ending}{time.monotonic() - started:6.1f} s{remark}", flush=True)
