"""The node helper's program: runs in a privileged pod on the victim's node, and nowhere else.

Standard library only, and nothing of ours but its own modules. ``bundle`` puts their text together for ``python3 -c``.
"""

from __future__ import annotations

import json
from pathlib import Path

MODULES = ("netlink", "nft", "links", "victim", "interfaces", "folders", "freezer", "processes", "collect", "main")
"""In the order in which they import each other."""

_START = """\
import json, sys, types
package = types.ModuleType({package!r})
for depth in range(1, len({package!r}.split("."))):
    name = ".".join({package!r}.split(".")[:depth])
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = []
package.__path__ = []
sys.modules[{package!r}] = package
for name, text in json.loads({texts!r}).items():
    module = types.ModuleType({package!r} + "." + name)
    sys.modules[module.__name__] = module
    setattr(package, name, module)
    exec(compile(text, name + ".py", "exec"), module.__dict__)
package.main.main(sys.argv[1])
"""


def bundle() -> str:
    """The whole program as one text. Its only argument is its order, as JSON (``main`` tells the shape)."""
    folder = Path(__file__).parent
    texts = {name: (folder / f"{name}.py").read_text(encoding="utf-8") for name in MODULES}
    return _START.format(package=__name__, texts=json.dumps(texts))
