"""``python -m lab.enforcer --name NAME --flows kept|cut``: the daemon beside a lab's node.

It runs on the host and enters the node's network namespace only to run nft. Ends on SIGTERM and SIGINT; the rules stay.
"""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import threading

from lab import layout
from lab.enforcer import records
from lab.enforcer.daemon import Enforcer
from lab.enforcer.render import Flows
from lab.errors import LabError
from lab.kube import Kube


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m lab.enforcer", description="Enforces NetworkPolicy on a lab's node."
    )
    parser.add_argument("--name", default=layout.DEFAULT_NAME, help="which lab (default: %(default)s)")
    parser.add_argument(
        "--flows",
        choices=[flows.value for flows in Flows],
        default=Flows.KEPT.value,
        help="whether a new policy leaves open connections alone or cuts them (default: %(default)s)",
    )
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    stopping, failed = threading.Event(), threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())

    def end(crash: threading.ExceptHookArgs) -> None:
        # Half an enforcer that looks alive is worse than none: its rules stay, and `python -m lab up` starts it again.
        logging.error("%s broke", crash.thread.name if crash.thread else "a thread", exc_info=crash.exc_value)
        failed.set()
        stopping.set()

    threading.excepthook = end
    try:
        lab = layout.find(arguments.name)
        if lab is None:
            raise LabError(f"there is no lab {arguments.name}: start it first (python -m lab up)")
        names = threading.Thread(target=records.follow, args=(lab, Kube.of(lab), stopping), name="names", daemon=True)
        names.start()
        Enforcer(lab, Kube.of(lab), Flows(arguments.flows)).run(stopping)
    except LabError as error:
        print(f"lab.enforcer: {error}", file=sys.stderr)
        return 1
    return 1 if failed.is_set() else 0


if __name__ == "__main__":
    sys.exit(main())
