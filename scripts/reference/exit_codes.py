"""``docs/reference/exit-codes.md``: what the programs end with, and the errors behind it."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator

import ringfence
from ringfence.errors import Effect, ExitCode, PlatformError, RingfenceError
from scripts.reference.text import code, document, sentence, table

# What the code alone cannot say. A code without a sentence here is a KeyError, and the test of the docs fails.
_MEANING = {
    ExitCode.OK: "Done. Also when rows are still open: a finding is not a failure. Read the verdict, not the code.",
    ExitCode.INTERNAL: "A fault in Ringfence itself (a traceback), or a question at the terminal that was aborted.",
    ExitCode.USAGE: "The command line does not parse, or what it says cannot be written down.",
    ExitCode.REFUSED: "A guardrail, a gate or the cluster's admission said no, and nothing was changed by that step; "
    "or `doctor` found something that will not work.",
    ExitCode.NOT_FOUND: "The target, incident, row or object does not exist, or is not one that this command takes.",
    ExitCode.DENIED: "The API server did not let us in, or did not allow the request (401, 403).",
    ExitCode.UNREACHABLE: "The API server was not reached, or did not answer. After a write it may have happened: "
    "run the same command again, it looks first.",
    ExitCode.CONFIG: "The configuration, the kubeconfig or the signing key cannot be used.",
    ExitCode.STORAGE: "The store or the vault cannot be used. From `contain`: the cut may be in place without a seal, "
    "the screen says so.",
    ExitCode.INCOMPLETE: "Begun and not finished: a step is done in part, its outcome is unknown, or the fence is not "
    "wholly down.",
    ExitCode.TAMPERED: "The bundle or the timeline is not what was sealed or chained, or the cluster's audit log says "
    "otherwise. The message names the item.",
    ExitCode.UNVERIFIABLE: "A check could not be made: no key, another signer's key, an unreadable file. This says "
    "nothing about the evidence.",
}
_EFFECT = {Effect.NONE: "nothing happened there", Effect.MAYBE: "the write may have happened"}


def page() -> str:
    _import_everything()
    errors = list(_tree(RingfenceError))
    return document(
        "Exit codes and errors",
        "`ringfence` and `ringfence-verify` share these codes. 130: interrupted with Ctrl-C; what was sent is in the "
        "journal. `ringfence incidents` shows where things stand, and the same command joins the incident again.",
        table(
            ("code", "name", "meaning", "errors"),
            [
                (
                    str(int(exit_code)),
                    exit_code.name.lower(),
                    _MEANING[exit_code],
                    ", ".join(code(error.code) for error in errors[1:] if error.exit_code is exit_code),
                )
                for exit_code in ExitCode
            ],
        ),
        "## Errors",
        "An error is printed to standard error as three lines: what, why, next. Its code is what outcomes carry in "
        "`-o json` and on the timeline (`problem.code`). An error of the platform also says whether a write may have "
        "happened.",
        table(
            ("error", "exit code", "meaning", "effect of the request"),
            [
                (
                    code(error.code),
                    str(int(error.exit_code)),
                    sentence(error),
                    _EFFECT[error.effect] if issubclass(error, PlatformError) else "",
                )
                for error in errors[1:]
            ],
        ),
        "Refusals are not errors: they are outcomes ([outcome and proof](../concepts/outcome-and-proof.md)) and end "
        f"with {int(ExitCode.REFUSED)}.",
    )


def _tree(error: type[RingfenceError]) -> Iterator[type[RingfenceError]]:
    """The error and everything below it, the rooms' own errors after the common ones."""
    yield error
    common = RingfenceError.__module__
    for child in sorted(error.__subclasses__(), key=lambda one: (one.__module__ != common, one.__module__)):
        yield from _tree(child)


def _import_everything() -> None:
    """A room's own errors are known once the room is imported. Migrations are scripts and have none."""
    for module in pkgutil.walk_packages(ringfence.__path__, "ringfence."):
        if ".migrations" not in module.name:
            importlib.import_module(module.name)
