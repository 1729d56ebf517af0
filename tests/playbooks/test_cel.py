"""Conditions: what they can say, what they cannot, and that none of them takes the process, or its time."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from ringfence.playbooks import CelError, compile_expression, evaluate
from ringfence.playbooks.cel import MAX_BRACKETS, MAX_ITEMS, MAX_LENGTH, MAX_TEXT, MAX_TOKENS, rehearse
from ringfence.playbooks.cel_library import library

VALUES: dict[str, Any] = {
    "incident": {"id": "INC-1", "type": "drill", "severity": "high", "state": "containing", "title": "A drill"},
    "target": {"kind": "Pod", "namespace": "bank", "name": "cards-1"},
    "steps": {
        "cut": {"outcome": "applied", "on_target": "refused"},
        "seal-it": {"outcome": "failed", "on_target": "failed"},
    },
}


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("incident.severity == 'high'", True),
        ('incident.severity == "critical"', False),
        ("incident.severity in ['critical', 'high']", True),
        ("!(target.kind == 'Pod')", False),
        ("target.namespace.startsWith('ba') && target.name.endsWith('-1')", True),
        ("target.name.contains('ards') || false", True),
        ("steps.cut.outcome == 'applied'", True),
        ("steps['seal-it'].outcome in ['applied', 'already']", False),
        ("steps.cut.on_target == 'applied'", False),
        ("steps.exists(s, steps[s].on_target == 'refused')", True),
        ("has(steps.cut) && !has(steps.nothing)", True),
        ("'cut' in steps", True),
        ("steps.exists(s, steps[s].outcome == 'failed')", True),
        ("steps.all(s, steps[s].outcome == 'applied')", False),
        ("steps.filter(s, steps[s].outcome == 'failed').size() == 1", True),
        ("size(steps) == 2 && steps.size() > 1", True),
        ("[1, 2].exists_one(n, n == -1)", False),
        ("(target.kind == 'Pod' ? 'a' : 'b') == 'a'", True),
        ("incident.title\n  == 'A drill'", True),
        ("incident.title == 'it\\'s'", False),
    ],
)
def test_what_a_condition_can_say(text: str, answer: bool) -> None:
    assert evaluate(text, VALUES) is answer


OUTSIDE: dict[str, tuple[str, str]] = {
    # name: text, what is said
    "nothing": ("", "it is empty"),
    "blanks": (" \n ", "it is empty"),
    "a function": ("env('HOME') == ''", "env is not allowed"),
    "a method": ("target.name.lowerAscii() == ''", "lowerAscii is not allowed"),
    "a regular expression": ("target.name.matches('(a+)+$')", "matches is not allowed"),
    "a copy of everything": ("steps.map(s, s) == []", "used as a whole"),
    "a list of new values": ("[1].map(n, [n, n]) == []", "map is not allowed"),
    "a conversion": ("string(1) == '1'", "string is not allowed"),
    "a macro as a function": ("exists(steps, s, true)", "exists is not allowed"),
    "another variable": ("os.environ == ''", "os is not allowed"),
    "a variable out of its scope": ("[1].exists(n, n == 1) && n == 1", "n is not allowed"),
    "a variable of a macro that shadows": ("[1].exists(incident, true)", "incident is not allowed"),
    "a macro without a variable": ("[1].exists(1 == 1)", "1 is not allowed"),
    "another field": ("incident.owner == ''", "incident has no owner"),
    "another field in brackets": ("target['uid'] == ''", "target has no uid"),
    "a field of a text": ("incident.id.length == 1", "incident.id.length is nothing"),
    "another word of a step": ("steps.cut.proof == ''", "steps.cut.proof is nothing"),
    "a whole variable": ("incident == target", "incident is used as a whole"),
    "all steps compared": ("steps == steps", "steps is used as a whole"),
    "a sum": ("1 + 1 == 2", "+ 1 == 2 is not allowed"),
    "a difference": ("1-1 == 0", "-1 is not allowed"),
    "a product": ("2 * 2 == 4", "* 2 == 4 is not allowed"),
    "a map": ("{'a': 1} == {}", "is not allowed at character 1"),
    "a comment": ("true // no", "// no is not allowed"),
    "a raw text": ("r'a' == 'a'", "r is not allowed"),
    "a raw text behind a variable": ("[1].exists(r, r'a' == 'a')", "r is not allowed"),
    "a text in bytes": ("b'a' == b'a'", "b is not allowed"),
    "a text of three quotes": ("'''a''' == 'a'", "is not allowed at character 3"),
    "a text over lines": ("'a\nb' == ''", "is not allowed at character 1"),
    "a text without an end": ("incident.id == 'a", "is not allowed at character 16"),
    "one equals sign": ("incident.id = 'a'", "= 'a' is not allowed"),
    "a dot at the beginning": (".incident.id == ''", ". is not allowed"),
    "a bracket too few": ("(true", "a ) is missing"),
    "a bracket too many": ("true)", ") is not allowed"),
    "brackets that cross": ("([true)]", ") is not allowed"),
    "a word of another alphabet": ("ìncident.id == ''", "is not allowed at character 1"),
    "no grammar": ("incident.id ==", "it is not CEL"),
    "half a character": ("'\ud800' == ''", "it is not CEL"),
    "a number too great": ("99999999999999999999 == 1", "it is not CEL"),
    "a text": ("incident.id", "its answer is INC-1"),
    "a number": ("1", "its answer is 1"),
    "a list": ("steps.filter(s, true)", "its answer is ["),
    "null": ("null", "its answer is None"),
    "a step that did not run": ("steps.gone.outcome == 'applied'", "there is no gone here"),
    "a comparison of types": ("incident.id < 1", "it cannot be evaluated"),
    "an index that is not there": ("[1][5] == 1", "it cannot be evaluated"),
}


@pytest.mark.parametrize("name", OUTSIDE)
def test_what_a_condition_cannot_say(name: str) -> None:
    text, said = OUTSIDE[name]
    with pytest.raises(CelError) as caught:
        evaluate(text, VALUES, "the drill")
    assert said in caught.value.why
    assert caught.value.location == "the drill"
    assert caught.value.next_step


def test_a_missing_field_is_an_error_and_no_answer() -> None:
    with pytest.raises(CelError, match="there is no severity here"):
        evaluate("incident.severity == 'high'", {**VALUES, "incident": {}})


@pytest.mark.parametrize(
    "values",
    [
        {**VALUES, "secrets": {"a": "b"}},
        {**VALUES, "incident": {"id": 1}},
        {**VALUES, "incident": {"id": {"deeper": "x"}}},
        {**VALUES, "incident": {"id": "x" * (MAX_TEXT + 1)}},
        {**VALUES, "incident": lambda: "x"},
        {**VALUES, "incident": {"id": len}},
        {**VALUES, "incident": {7: "x"}},
        {**VALUES, "steps": {"cut": "applied"} | {f"s{n}": {"outcome": "x"} for n in range(MAX_ITEMS)}},
        {**VALUES, "steps": {"cut": {"outcome": ["x"]}}},
        {**VALUES, "steps": ["cut"]},
    ],
)
def test_values_of_another_shape_never_reach_the_library(values: dict[str, Any]) -> None:
    with pytest.raises(CelError):
        evaluate("true", values)


def test_a_value_that_is_deep_is_refused() -> None:
    deep: Any = "x"
    for _ in range(100_000):
        deep = {"outcome": deep}
    with pytest.raises(CelError):
        evaluate("true", {**VALUES, "steps": {"cut": deep}})
    while isinstance(deep, dict):  # taken apart by hand: freeing it would recurse
        deep = deep.pop("outcome")


def test_what_is_asked_for_is_known_before_it_runs() -> None:
    expression = compile_expression("steps.cut.outcome == 'x' && 'seal-it' in steps || target.kind == 'Pod'", "it")
    assert expression.steps == {"cut"}
    assert expression.paths == {("steps", "cut", "outcome"), ("steps",), ("target", "kind")}
    assert compile_expression("steps['seal-it'].outcome == 'x'", "it").paths == {("steps", "seal-it", "outcome")}


def test_the_rehearsal_finds_what_can_never_work_and_passes_what_can() -> None:
    rehearse(compile_expression("steps.cut.outcome == 'applied' || target.name == 'a'", "it"), ["cut"])
    with pytest.raises(CelError):
        rehearse(compile_expression("target.name", "it"), [])


LONGEST = MAX_LENGTH // 2
ITEMS = f"[{','.join(['1'] * MAX_ITEMS)}]"
REFUSED: dict[str, str] = {
    "a sum of 20,000 terms": "+".join(["1"] * 20_000) + " == 1",
    "a disjunction of 20,000 terms": "||".join(["true"] * 20_000),
    "20,000 brackets": "(" * 20_000 + "true" + ")" * 20_000,
    "20,000 lists": "[" * 20_000 + "]" * 20_000 + " == []",
    "20,000 negations": "!" * 20_000 + "true",
    "20,000 members": "incident" + ".a" * 20_000,
    "brackets that fit into the length": "(" * (LONGEST - 8) + "true" + ")" * (LONGEST - 8),
    "a bracket too deep": "(" * (MAX_BRACKETS + 1) + "true" + ")" * (MAX_BRACKETS + 1),
    "too many marks": "!" * (MAX_TOKENS + 1) + "true",
    "three comprehensions inside each other": "steps.all(a, steps.all(b, steps.all(c, a != b || b != c)))",
    "three, spelled with blanks": "steps . all ( a , steps\n.exists (b, steps. filter (c, true) == []))",
    "a list of 101": f"1 in [{','.join(['1'] * (MAX_ITEMS + 1))}]",
    "too many bytes in few characters": f"'{'é' * LONGEST}' == ''",
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_take_the_process_is_refused_before_the_library_sees_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:

    asked: list[str] = []
    monkeypatch.setattr(library(), "compile", asked.append)
    with pytest.raises(CelError):
        compile_expression(REFUSED[name], "it")
    assert not asked


def longest(head: str, unit: str, tail: str) -> str:
    """The most of ``unit`` that the limits let pass."""

    def passes(count: int) -> bool:
        try:
            compile_expression(head + unit * count + tail, "it")
        except CelError as error:
            return "it is not CEL" in error.why
        return True

    least, most = 1, MAX_LENGTH
    while least < most:
        middle = (least + most + 1) // 2
        least, most = (middle, most) if passes(middle) else (least, middle - 1)
    return head + unit * least + tail


NESTED = "steps.all(a, steps.all(b, "
ALLOWED: dict[str, Callable[[], str]] = {
    "brackets": lambda: "(" * MAX_BRACKETS + "true" + ")" * MAX_BRACKETS,
    "lists": lambda: "[" * MAX_BRACKETS + "]" * MAX_BRACKETS + " == []",
    "negations": lambda: longest("", "!", "true"),
    "a disjunction": lambda: longest("false", "||false", ""),
    "comparisons": lambda: longest("true", "==true", ""),
    "choices": lambda: longest("", "false?true:", "true"),
    "members": lambda: longest("[1].exists(a, a", ".a", ")"),
    "indexes": lambda: longest("[1].exists(a, a", "[1]", ")"),
    "brackets of choices": lambda: "(false?true:" * MAX_BRACKETS + "true" + ")" * MAX_BRACKETS,
    "a long list": lambda: f"1 in {ITEMS}",
    "comprehensions in a row": lambda: longest("true", "&& steps.all(a, steps.all(b, true))", ""),
    "two, searching long texts": lambda: longest(NESTED + "true", "&& !incident.title.contains(a)", "))"),
    "two, comparing long texts": lambda: longest(NESTED + "true", "&& incident.title == incident.id", "))"),
    "two, making lists": lambda: f"{NESTED}{ITEMS} == {ITEMS[:-60]}] || true))",
    "two, filtering lists": lambda: longest(NESTED + "true", "&& a in [a, b, 'c', 'd']", "))"),
    "two, indexing": lambda: longest(NESTED + "true", "&& steps[a] == steps[b]", "))"),
}


PROGRAM = """
import json, resource, sys, threading, time
given = json.load(sys.stdin)
sys.path[:0] = given["path"]
from ringfence.playbooks import CelError, evaluate
long = "x" * given["text"]
values = {
    "incident": {"id": long, "type": "x", "severity": "x", "state": "x", "title": long},
    "target": {"kind": "x", "namespace": "x", "name": "x"},
    "steps": {f"a{number:063}": {"outcome": long} for number in range(given["items"])},
}
def run(text):
    began = time.process_time()
    try:
        answer = str(evaluate(text, values))
    except CelError:
        answer = "CelError"
    print(answer, time.process_time() - began, flush=True)
threading.stack_size(512 * 1024)
for name, text in given["texts"].items():
    print(name, end=": ", flush=True)
    thread = threading.Thread(target=run, args=(text,))
    thread.start()
    thread.join()
"""


def test_the_worst_that_is_allowed_ends_soon_and_on_a_small_stack() -> None:
    """In a process of its own: what goes wrong here ends it. Seconds are of processor time, not of the clock."""
    given = {
        "path": sys.path,
        "text": MAX_TEXT,
        "items": MAX_ITEMS,
        "texts": {name: make() for name, make in ALLOWED.items()},
    }
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM], input=json.dumps(given), capture_output=True, text=True, check=False
    )
    lines = ended.stdout.splitlines()
    assert ended.returncode == 0, f"ended by {-ended.returncode} at {lines[-1:]}"
    assert len(lines) == len(ALLOWED)
    assert not [line for line in lines if float(line.rpartition(" ")[2]) > 8]
    answers = {line.split(": ")[1].split()[0] for line in lines}
    assert answers <= {"True", "False", "CelError"}
    assert not ended.stderr


def test_the_library_is_loaded_once_however_many_pods_ask_for_it_at_once() -> None:
    """Loading it a second time ends in a panic; a run that was resumed reads its playbook for all pods at once."""
    program = (
        "import threading\n"
        "from ringfence.playbooks.cel_library import library\n"
        "together, found = threading.Barrier(16), []\n"
        "def ask():\n"
        "    together.wait()\n"
        "    found.append(library().compile('1 < 2').execute({}))\n"
        "threads = [threading.Thread(target=ask) for _ in range(16)]\n"
        "[thread.start() for thread in threads]\n"
        "[thread.join() for thread in threads]\n"
        "print(found == [True] * 16)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.stdout.strip(), done.stderr) == ("True", "")
