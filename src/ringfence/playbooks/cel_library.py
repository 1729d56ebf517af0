"""The CEL library's compiled part, without the package around it.

The package imports a command line of its own with all that such a one needs, which takes 0.2 s: before a cut, where a
playbook has a condition.
"""

from __future__ import annotations

import importlib.util
import sys
import threading
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader, FileFinder
from typing import Any

_NAME = "cel.cel"


_loading = threading.Lock()
"""It can be loaded once in a process, and the pods of a group ask for it at once."""


def library() -> Any:
    """What offers ``compile``. The package itself where its compiled part is not a file beside it."""
    with _loading:
        return sys.modules.get(_NAME) or _load()


def _load() -> Any:
    package = importlib.util.find_spec("cel")
    for folder in (package.submodule_search_locations or ()) if package is not None else ():
        spec = FileFinder(folder, (ExtensionFileLoader, EXTENSION_SUFFIXES)).find_spec(_NAME)
        if spec is not None and spec.loader is not None:
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            sys.modules[_NAME] = module  # where the package would look for it
            return module
    import cel

    return cel
