"""Whatever the bytes: a Playbook, or a PlaybookError. Nothing else comes out of the loader."""

from __future__ import annotations

import contextlib

import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ringfence.playbooks import CelError, PlaybookError, evaluate, lint, load
from tests.playbooks.pages import GOOD

PIECES = st.sampled_from(
    (
        *(
            "a",
            "- ",
            ": ",
            "\n",
            "  ",
            "{",
            "}",
            "[",
            "]",
            ",",
            "&a ",
            "*a",
            "!",
            "!!str ",
            "|",
            ">",
            "'",
            '"',
            "\\",
            "\\x",
        ),
        *(
            "#",
            "? ",
            "---\n",
            "...\n",
            "%YAML 1.2\n",
            "%TAG ! x\n",
            "<<",
            "~",
            "true",
            "0x",
            "1e",
            ".inf",
            "-",
            "\t",
            "\r",
        ),
        *(
            "on",
            "kind",
            "spec",
            "steps",
            "when",
            "\ufeff",
            "\x85",
            "\u2028",
            "é",
            "\U0001f600",
            "\\ud800",
            "\\U00110000",
        ),
    )
)
ENOUGH = settings(max_examples=100, deadline=None)


def loads_or_says(content: bytes) -> None:
    with contextlib.suppress(PlaybookError):
        lint(load(content, "drill.yaml"))


@ENOUGH
@given(st.binary(max_size=400))
@example(b"\xff\xfea\x00")
@example(b"\xef\xbb\xbfa: b")
@example(b'"\\U99999999"')
def test_any_bytes(content: bytes) -> None:
    loads_or_says(content)


@ENOUGH
@given(st.lists(PIECES, max_size=40).map("".join))
def test_pieces_of_yaml(text: str) -> None:
    loads_or_says(text.encode("utf-8", "surrogatepass"))


@ENOUGH
@given(st.integers(0, len(GOOD)), st.integers(0, 30), st.lists(PIECES, max_size=4).map("".join))
def test_a_good_playbook_with_a_piece_replaced(at: int, length: int, piece: str) -> None:
    loads_or_says((GOOD[:at] + piece + GOOD[at + length :]).encode("utf-8", "surrogatepass"))


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["cut", "pod.delete"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)


@ENOUGH
@given(
    st.sampled_from(
        ["metadata", "name", "spec", "incident", "targets", "steps", "id", "action", "with", "when", "on", "phase"]
    ),
    JSON,
)
def test_a_good_playbook_with_a_value_of_another_shape(key: str, value: object) -> None:
    def put(node: object) -> object:
        if isinstance(node, dict):
            return {name: value if name == key else put(inner) for name, inner in node.items()}
        return [put(inner) for inner in node] if isinstance(node, list) else node

    good = yaml.load(GOOD.replace("on:", "'on':"), Loader=yaml.SafeLoader)
    loads_or_says(yaml.safe_dump(put(good), allow_unicode=True).encode("utf-8", "surrogatepass"))


WORDS = st.sampled_from(
    (
        *(
            "incident",
            "target",
            "steps",
            ".severity",
            ".kind",
            ".cut",
            ".outcome",
            "['seal-it']",
            "a",
            "x",
            "true",
            "null",
        ),
        *(
            "1",
            "-1",
            "'high'",
            '"a"',
            "'\\n'",
            "r'a'",
            "(",
            ")",
            "[",
            "]",
            "{",
            "}",
            ",",
            ":",
            "?",
            "&&",
            "||",
            "!",
            "==",
        ),
        *("<", " in ", "+", "-", ".exists(s, ", ".all(s, ", ".filter(s, ", ".map(s, ", "has(", "size(", ".matches("),
        *(".size()", "//", "\n", "`", "\x00"),
    )
)
VALUES = {
    "incident": {"id": "INC-1", "type": "drill", "severity": "high", "state": "containing", "title": "A drill"},
    "target": {"kind": "Pod", "namespace": "bank", "name": "cards-1"},
    "steps": {"cut": {"outcome": "applied"}, "seal-it": {"outcome": "failed"}},
}


@settings(max_examples=400, deadline=None)
@given(st.lists(WORDS, max_size=20).map("".join) | st.text(max_size=60))
def test_any_condition_holds_or_does_not_or_says_why(text: str) -> None:
    with contextlib.suppress(CelError):
        assert evaluate(text, VALUES) in (True, False)
