"""The canonical encoding that the timeline is hashed over."""

from __future__ import annotations

from typing import Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from ringfence.model.base import canonical

SCALARS = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=20)
NAMES = st.text(max_size=8)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(NAMES, inner), max_leaves=20)


@given(st.dictionaries(NAMES, VALUES))
def test_the_fast_encoder_writes_what_the_standard_says(value: dict[str, Any]) -> None:
    try:
        expected = rfc8785.dumps(value)
    except ValueError:
        with pytest.raises(ValueError):  # the library's, or UnicodeEncodeError, which is one
            canonical(value)
    else:
        assert canonical(value) == expected


@pytest.mark.parametrize(
    "value",
    [
        {"\ue000": 1, "\U0001f600": 2},  # beyond the basic plane UTF-16 sorts otherwise than code points do
        {"n": 1e21, "m": 2**53},
        {"s": '\x00\x1f\x7f\u2028"\\/\b\f\n\r\t'},
        {"lone": "\ud800"},
    ],
)
def test_where_the_two_encoders_differ(value: dict[str, Any]) -> None:
    test_the_fast_encoder_writes_what_the_standard_says.hypothesis.inner_test(value)  # type: ignore[attr-defined]
