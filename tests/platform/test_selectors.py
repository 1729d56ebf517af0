"""Label selectors: matching against an oracle in set algebra, the query text against an interpreter of its grammar.

Also that nothing unknown is read as "everything", and that hostile text never reaches a query or a terminal as it is.
"""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringfence.errors import RingfenceError
from ringfence.platform.kubernetes.selectors import (
    SelectorError,
    labels_of,
    matches,
    matches_map,
    parse,
    printable,
    to_query,
)
from tests.platform import network_worlds as worlds

labels = st.dictionaries(st.sampled_from(["app", "tier", "x.io/team"]), st.sampled_from(["a", "b", ""]), max_size=3)
values = st.lists(st.sampled_from(["a", "b", ""]), min_size=1, max_size=3)
keys = st.sampled_from(["app", "tier", "x.io/team"])
selectors = st.fixed_dictionaries(
    {},
    optional={
        "matchLabels": labels,
        "matchExpressions": st.lists(
            st.one_of(
                st.fixed_dictionaries({"key": keys, "operator": st.sampled_from(["In", "NotIn"]), "values": values}),
                st.fixed_dictionaries({"key": keys, "operator": st.sampled_from(["Exists", "DoesNotExist"])}),
            ),
            max_size=3,
        ),
    },
)


def selected_by_query(query: str, of: dict[str, str]) -> bool:
    """The grammar of the ``labelSelector`` parameter, term by term; commas inside brackets do not separate."""
    verdicts = []
    for term in re.findall(r"[^,(]+(?:\([^)]*\))?", query):
        if listed := re.fullmatch(r"(\S+) (in|notin) \(([^)]*)\)", term):
            key, operator, texts = listed.groups()
            verdicts.append((of.get(key) in texts.split(",")) == (operator == "in"))
        elif differs := re.fullmatch(r"(\S+?)!=(\S*)", term):
            verdicts.append(of.get(differs[1]) != differs[2])
        elif equals := re.fullmatch(r"(\S+?)=(\S*)", term):
            verdicts.append(of.get(equals[1]) == equals[2])
        elif absent := re.fullmatch(r"!(\S+)", term):
            verdicts.append(absent[1] not in of)
        else:
            verdicts.append(term in of)
    return all(verdicts)


@worlds.examples(100)
@given(selectors, labels)
def test_matching_agrees_with_the_oracle(selector: dict, of: dict) -> None:
    assert matches(selector, of) == worlds.picks(selector, of)


@worlds.examples(100)
@given(selectors, labels)
def test_the_query_selects_what_the_selector_selects(selector: dict, of: dict) -> None:
    assert selected_by_query(to_query(selector), of) == matches(selector, of)


@worlds.examples(100)
@given(labels, labels)
def test_a_map_selects_by_equality_and_the_empty_one_nothing(selector: dict, of: dict) -> None:
    assert matches_map(selector, of) == (bool(selector) and selector.items() <= of.items())


@worlds.examples(100)
@given(selectors, labels)
def test_without_a_required_label_nothing_is_selected(selector: dict, of: dict) -> None:
    for key in parse(selector).required_keys:
        assert not matches(selector, {k: v for k, v in of.items() if k != key})


def test_absent_selects_nothing_and_empty_everything() -> None:
    assert not matches(None, {})
    assert not matches(None, {"app": "a"})
    assert matches({}, {})
    assert matches({"matchLabels": None, "matchExpressions": None}, {"app": "a"})
    assert not matches_map(None, {"app": "a"})


@pytest.mark.parametrize(
    ("selector", "query"),
    [
        ({}, ""),
        ({"matchLabels": {"app": "cards", "a.io/x": ""}}, "a.io/x=,app=cards"),
        ({"matchExpressions": [{"key": "app", "operator": "In", "values": ["b", "a"]}]}, "app in (a,b)"),
        ({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["a"]}]}, "app!=a"),
        ({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["a", ""]}]}, "app notin (,a)"),
        ({"matchExpressions": [{"key": "app", "operator": "Exists"}]}, "app"),
        ({"matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]}, "!app"),
    ],
)
def test_the_query_is_in_the_servers_grammar(selector: dict, query: str) -> None:
    assert to_query(selector) == query


def test_an_absent_selector_has_no_query_since_the_empty_one_selects_everything() -> None:
    with pytest.raises(SelectorError, match="cannot be sent"):
        to_query(None)


@pytest.mark.parametrize(
    "selector",
    [
        {"matchLabels": {"app": "a,tier=b"}},
        {"matchLabels": {"app": "a b"}},
        {"matchLabels": {"app) ,x": "a"}},
        {"matchLabels": {"": "a"}},
        {"matchLabels": {"/app": "a"}},
        {"matchLabels": {"app": "a" * 64}},
        {"matchLabels": {"app": "a\n"}},
        {"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["a)", "(b"]}]},
    ],
)
def test_what_no_label_can_hold_never_enters_a_query(selector: dict) -> None:
    with pytest.raises(SelectorError, match="cannot be sent"):
        to_query(selector)


@pytest.mark.parametrize(
    "selector",
    [
        {"matchFields": {}},
        {"matchLabels": ["app"]},
        {"matchLabels": {"app": 1}},
        {"matchLabels": {"app": None}},
        {"matchExpressions": {"key": "app", "operator": "Exists"}},
        {"matchExpressions": ["app"]},
        {"matchExpressions": [{"operator": "Exists"}]},
        {"matchExpressions": [{"key": "app"}]},
        {"matchExpressions": [{"key": "app", "operator": "in", "values": ["a"]}]},
        {"matchExpressions": [{"key": "app", "operator": "Gt", "values": ["1"]}]},
        {"matchExpressions": [{"key": "app", "operator": "In"}]},
        {"matchExpressions": [{"key": "app", "operator": "NotIn", "values": []}]},
        {"matchExpressions": [{"key": "app", "operator": "In", "values": "a"}]},
        {"matchExpressions": [{"key": "app", "operator": "Exists", "values": ["a"]}]},
        {"matchExpressions": [{"key": "app", "operator": "Exists", "value": "a"}]},
    ],
)
def test_what_is_not_understood_is_an_error_for_any_labels(selector: dict) -> None:
    for of in ({}, {"app": "a"}):
        with pytest.raises(SelectorError) as error:
            matches(selector, of)
        assert isinstance(error.value, RingfenceError)
        assert error.value.why


@worlds.examples(100)
@given(st.text())
def test_printable_text_has_nothing_that_a_terminal_or_page_could_act_on(text: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9._/:\\-]*", printable(text))


@worlds.examples(100)
@given(st.text(), st.text())
def test_different_texts_stay_different(left: str, right: str) -> None:
    assert (printable(left) == printable(right)) == (left == right)


def test_a_selector_for_people_is_escaped() -> None:
    selector = parse({"matchExpressions": [{"key": "app", "operator": "In", "values": ["\x1b[2J", "ok", "<b>"]}]})
    assert str(selector) == "app in (\\x1b\\x5b2J,\\x3cb\\x3e,ok)"
    assert str(parse({})) == "everything"


def test_an_object_without_labels_has_none() -> None:
    assert labels_of({"metadata": {"name": "a"}}) == labels_of({"metadata": {"labels": None}}) == {}
