"""``ringfence-verify``: check a sealed bundle with nothing but the public key. Works offline.

Exit codes: 0 verified, 2 wrong usage, 8 ``--extract`` could not write, 20 tampered, 21 cannot be checked.
"""

from __future__ import annotations

import argparse
import json
import sys
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from ringfence import __version__
from ringfence.errors import ExitCode, Tampered, Unverifiable, VaultError
from ringfence.seal.keys import PublicKey, public_key_from_pem
from ringfence.seal.manifest import Item, Result
from ringfence.seal.statement import ObjectRef
from ringfence.seal.verify import Examination, Problem, VerifiedSeal, examine_bundle, read_envelope

OWED = (
    "that the key is the sealer's: compare its id with one that reached you another way",
    "that the times are right: they are the sealer's clock",
    "that no later seal was withheld: compare the timeline's head with one kept elsewhere",
)
"""What a good verdict does not say; ``verify`` explains."""

_LONGEST = 4000
"""Characters of one line that are printed; the rest is counted."""
_BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0") | frozenset(map(chr, range(0xFE00, 0xFE10)))

EPILOG = """\
The signature can be checked without this program:

  ringfence-verify BUNDLE --extract DIR
  openssl dgst -sha256 -verify KEY.pub -signature DIR/signature.der DIR/pae.bin

pae.bin holds the signed statement behind a short prefix (DSSE). The statement names the SHA-256 of manifest.json,
custody.jsonl and timeline.jsonl, and the manifest those of the evidence. Any tar and zstd program unpacks a bundle.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        key = _read_key(options.key)
        if options.extract is not None:
            _extract(options.bundle, options.extract)
    except VaultError as error:
        print(_safe(f"{error}; next: {error.next_step}"), file=sys.stderr)
        return ExitCode.STORAGE
    except (Tampered, Unverifiable) as problem:
        examination = Examination(None, (problem,), stopped=True)
    else:
        examination = examine_bundle(options.bundle, key)
    if options.output == "json":
        # DEL is the one control that JSON in ASCII leaves as it is.
        print(
            json.dumps(_as_json(options.bundle, examination, listed=options.list), indent=2).replace("\x7f", "\\u007f")
        )
    else:
        print("\n".join(_safe(line) for line in _as_text(options.bundle, examination, listed=options.list)))
    return _exit_code(examination.problems)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ringfence-verify",
        description="Verify a sealed evidence bundle, offline, with the sealer's public key.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="the bundle (one .tar file)")
    parser.add_argument(
        "--key",
        type=Path,
        metavar="KEY.pub",
        help="the sealer's public key (PEM); without it everything but the signature is checked, and the result is "
        "'cannot be checked' at best",
    )
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text", help="how to print (default: text)")
    parser.add_argument("--list", action="store_true", help="list the items of evidence of a bundle that verifies")
    parser.add_argument(
        "--extract",
        type=Path,
        metavar="DIR",
        help="write pae.bin (what was signed) and signature.der into DIR, unverified and never over another file",
    )
    parser.add_argument("--version", action="version", version=f"ringfence-verify {__version__}")
    return parser


def _read_key(path: Path | None) -> PublicKey | None:
    if path is None:
        return None
    try:
        return public_key_from_pem(path.read_bytes())
    except (OSError, ValueError) as error:
        raise Unverifiable(
            "signature",
            missing=f"a usable public key: {path}: {error}",
            next_step="give the sealer's public key: PEM, ECDSA on P-256",
        ) from error


def _extract(bundle: Path, folder: Path) -> None:
    """Write what openssl needs. Raises VaultError when it cannot, Tampered or Unverifiable for the envelope."""
    envelope = read_envelope(bundle)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in (("pae.bin", envelope.pae()), ("signature.der", envelope.signature)):
            with (folder / name).open("xb") as file:
                file.write(data)
    except OSError as error:
        raise VaultError(
            f"cannot extract to {folder}", why=str(error), next_step="name a new folder on a disk with space"
        ) from error


def _exit_code(problems: Sequence[Problem]) -> ExitCode:
    """The worst of them: Tampered, then Unverifiable, then OK."""
    if any(isinstance(problem, Tampered) for problem in problems):
        return ExitCode.TAMPERED
    return ExitCode.UNVERIFIABLE if problems else ExitCode.OK


def _verdict(examination: Examination) -> str:
    words = {
        ExitCode.OK: "verified",
        ExitCode.TAMPERED: "TAMPERED",
        ExitCode.UNVERIFIABLE: "CANNOT BE CHECKED",
    }
    return words[_exit_code(examination.problems)]


def _as_text(bundle: Path, examination: Examination, *, listed: bool) -> list[str]:
    lines = [f"{_verdict(examination)}: {bundle}"]
    for problem in examination.problems:
        lines += [f"  {problem}"] + ([f"    next: {problem.next_step}"] if problem.next_step else [])
    if examination.stopped:
        lines.append("  What comes after that could not be looked at.")
    if examination.seal is not None:
        lines += _seal_lines(examination.seal)
        if listed:
            lines += ["", *(_item_line(item) for item in examination.seal.items)]
        lines += ["", "Not proven by this:", *(f"  {owed}" for owed in OWED)]
    return lines


def _seal_lines(seal: VerifiedSeal) -> list[str]:
    said = seal.predicate
    results = Counter(item.result for item in seal.items)
    counts = ", ".join(f"{results[result]} {result}" for result in Result if results[result])
    erased = f", {seal.erased_events} erased" if seal.erased_events else ""
    lines = [
        f"  seal       {said.seal_id} of incident {said.incident}, cluster {said.cluster_uid}",
        *(f"  preserves  {_object(one)}, uid {one.uid}" for one in said.preserves),
        f"  sealed     {said.sealed_at} by {said.tool.name} {said.tool.version}",
        f"  key        {seal.key_id}",
        f"  file       sha256:{seal.sha256} ({seal.size} bytes)",
        f"  items      {said.items}" + (f": {counts}" if counts else ""),
        f"  custody    {said.custody_head.seq} entries, head {said.custody_head.hash}",
        f"  timeline   {said.timeline_head.seq} events{erased}, head {said.timeline_head.hash}",
    ]
    lines += [
        f"  missing    {item.id}: {item.result}: {item.reason}"
        for item in seal.items
        if item.required and item.result is not Result.COLLECTED
    ]
    return lines


def _object(one: ObjectRef) -> str:
    return f"{one.kind} {one.namespace}/{one.name}" if one.namespace else f"{one.kind} {one.name}"


def _item_line(item: Item) -> str:
    what = f"sha256:{item.blob.raw_sha256} {item.blob.raw_size} bytes" if item.blob else item.reason
    return f"  {item.result:<10} {'required' if item.required else 'optional'}  {item.id}  {what}"


def _as_json(bundle: Path, examination: Examination, *, listed: bool) -> dict[str, object]:
    seal = examination.seal
    return {
        "bundle": str(bundle),
        "verdict": _exit_code(examination.problems).name.lower(),
        "problems": [_problem_json(problem) for problem in examination.problems],
        "stopped": examination.stopped,
        "seal": None
        if seal is None
        else {
            **seal.predicate.to_json(),
            "sha256": seal.sha256,
            "size": seal.size,
            "key_id": seal.key_id,
            "erased_events": seal.erased_events,
        },
        "items": [item.to_json() for item in seal.items] if seal is not None and listed else None,
        "not_proven": list(OWED),
    }


def _problem_json(problem: Problem) -> dict[str, str]:
    said = {"code": problem.code, "item": problem.item, "why": problem.why, "next_step": problem.next_step}
    if isinstance(problem, Tampered):
        return said | {"expected": problem.expected, "actual": problem.actual}
    return said | {"missing": problem.missing}


def _safe(text: str) -> str:
    """Text that cannot drive a terminal or hide from its reader, cut to a length that a person may read.

    What is not printable (controls, bidirectional marks) is escaped, and so are letters that look like nothing and
    combining marks on top of two others.
    """
    shown, marks = [], 0
    for one in text[:_LONGEST]:
        marks = marks + 1 if unicodedata.category(one) in ("Mn", "Me") else 0
        harmless = one.isprintable() and one not in _BLANK and marks <= 2
        shown.append(one if harmless else one.encode("unicode_escape").decode("ascii"))
    left = len(text) - _LONGEST
    return "".join(shown) if left <= 0 else f"{''.join(shown)} … ({left} characters more)"


if __name__ == "__main__":
    sys.exit(main())
