"""The playbooks that come with Ringfence, and files that a person names."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from ringfence.playbooks.document import near
from ringfence.playbooks.errors import Mistake, PlaybookError, legible
from ringfence.playbooks.load import SUFFIX
from ringfence.playbooks.tree import MAX_BYTES

_LIBRARY = resources.files("ringfence.playbooks") / "library"


def builtin_names() -> tuple[str, ...]:
    """Their names, sorted."""
    return tuple(sorted(one.name.removesuffix(SUFFIX) for one in _LIBRARY.iterdir() if one.name.endswith(SUFFIX)))


def builtin(name: str) -> bytes:
    """The file of that name. Raises PlaybookError when there is none."""
    names = builtin_names()
    if name not in names:
        raise PlaybookError(name, [Mistake(0, "there is no such playbook", f"{near(name, names)}, or a file.yaml")])
    return (_LIBRARY / f"{name}{SUFFIX}").read_bytes()


def find(name_or_path: str) -> tuple[bytes, str]:
    """The bytes and the source of a playbook of the library, or of a file whose path ends in ``.yaml``.

    Raises PlaybookError when there is none, or when it cannot be read.
    """
    if not name_or_path.endswith(SUFFIX):
        return builtin(name_or_path), f"{name_or_path}{SUFFIX}"
    path = Path(name_or_path)
    try:
        if not path.is_file():  # a pipe or a device never ends
            words = "it is no file" if path.exists() else "there is no such file"
            raise PlaybookError(name_or_path, [Mistake(0, words, "name a file, or a playbook of the library")])
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1), name_or_path
    except (OSError, ValueError) as error:
        reason = legible(getattr(error, "strerror", None) or error)
        raise PlaybookError(name_or_path, [Mistake(0, f"it cannot be read ({reason})", "check the path")]) from error
