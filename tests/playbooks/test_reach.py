"""What a playbook can reach: the catalogue, and nothing of the machine that reads it."""

from __future__ import annotations

import ast
import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest

import ringfence.playbooks
from ringfence.model import catalogue, playbook
from ringfence.playbooks import builtin, builtin_names
from tests.playbooks.pages import GOOD, spoil

ROOM = sorted(Path(ringfence.playbooks.__file__).parent.glob("*.py"))
FILES = [*ROOM, *(Path(inspect.getfile(module)) for module in (playbook, catalogue))]
HARMLESS = {
    *("__future__", "collections.abc", "dataclasses", "difflib", "enum", "functools", "itertools", "math", "re"),
    *("types", "typing", "unicodedata", "cel", "pydantic", "yaml"),
}
OURS = ("ringfence.errors", "ringfence.model", "ringfence.playbooks")
READS_FILES = {
    "library.py": {"importlib", "pathlib"},
    "load.py": {"pathlib"},
    "cel_library.py": {"importlib.machinery", "importlib.util", "sys", "threading"},
}
"""library.py reads the file that a person named; load.py takes a path's name apart (PurePath); cel_library.py loads the
library, of a name that is fixed."""
FORBIDDEN = {
    "open",
    "eval",
    "exec",
    "compile",
    "__import__",
    "input",
    "breakpoint",
    "globals",
    "vars",
    "environ",
    "getenv",
}


def test_there_is_something_to_look_at() -> None:
    assert {"cel.py", "tree.py", "load.py", "library.py", "lint.py"} <= {path.name for path in ROOM}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_room_imports_nothing_that_reaches_out(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        for name in names:
            allowed = name in HARMLESS | READS_FILES.get(path.name, set()) or name.startswith(OURS)
            assert allowed, f"{path.name} imports {name}"
            if path.name == "load.py" and name == "pathlib":
                assert isinstance(node, ast.ImportFrom)
                assert [alias.name for alias in node.names] == ["PurePath"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_room_calls_nothing_that_reaches_out(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Name):
            assert node.id not in FORBIDDEN, f"{path.name} uses {node.id}"
        if isinstance(node, ast.Attribute) and node.attr in FORBIDDEN:
            holder = ast.unparse(node.value)
            assert (path.name, holder, node.attr) in {
                ("library.py", "path", "open"),
                ("cel.py", "library()", "compile"),
                *((path.name, "re", "compile"),),
            }, f"{path.name} uses {holder}.{node.attr}"


WATCHED = """
import json, sys
texts, path = json.load(sys.stdin)
sys.path[:0] = path
from ringfence.playbooks import CelError, PlaybookError, evaluate, lint, load
import cel
values = {
    "incident": {"id": "INC-1", "type": "drill", "severity": "high", "state": "containing", "title": "$(id)"},
    "target": {"kind": "Pod", "namespace": "bank", "name": "`id`"},
    "steps": {"cut": {"outcome": "applied", "on_target": "applied"}},
}
def one(text):
    try:
        playbook = load(text.encode(), "drill")
        lint(playbook)
        for step in playbook.steps:
            step.when is None or evaluate(step.when, values)
        return "loaded"
    except (CelError, PlaybookError) as error:
        return str(error)
for text in texts[:1]:
    one(text)  # what is imported at the first use is imported now
seen = []
watching = True
def hook(event, arguments):
    if watching and not event.startswith(("object.", "builtins.id", "sys._getframe", "code.", "compile", "marshal.")):
        seen.append(event)
sys.addaudithook(hook)
said = [one(text) for text in texts]
watching = False
print(json.dumps([seen, said]))
"""

HOSTILE = [
    GOOD,
    *(builtin(name).decode() for name in builtin_names()),
    spoil(("title: A drill", "title: '$(touch /tmp/x) ${HOME} {{ 7*7 }} %(id)s {0.__class__}'")),
    spoil(("title: A drill", "title: !!python/object/apply:os.system [id]")),
    spoil(("title: A drill", "title: !include /etc/passwd")),
    spoil(("action: pod.delete", "action: shell\n      with: {run: id}")),
    spoil(("action: pod.delete", "action: http.get\n      with: {url: 'http://169.254.169.254/'}")),
    spoil(("{reason: May they go}", "{reason: 'file:///etc/passwd', env: HOME}")),
    *(
        spoil(("incident.severity == 'high'", text))
        for text in (
            "env.HOME == ''",
            "file('/etc/passwd') == ''",
            "os.getenv('HOME') == ''",
            "http.get('http://x/') == ''",
        )
    ),
]


def test_reading_playbooks_touches_no_file_process_variable_or_host() -> None:
    """The interpreter itself tells of every file, process, module and socket that is opened."""
    done = subprocess.run(
        [sys.executable, "-c", WATCHED],
        input=json.dumps([HOSTILE, sys.path]),
        capture_output=True,
        text=True,
        check=True,
    )
    seen, said = json.loads(done.stdout)
    assert seen == []
    assert said[: 1 + len(builtin_names()) + 1] == ["loaded"] * (len(builtin_names()) + 2)
    assert "loaded" not in said[len(builtin_names()) + 2 :]
