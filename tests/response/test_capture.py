"""Capturing anew: a seal is of the suspect, never of whoever has its name now. What is captured: tests/evidence."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ringfence.errors import TargetError
from ringfence.response.capture import recapture
from ringfence.response.context import Context
from ringfence.store import evidence, incidents
from tests.response.steps_of import contained


def test_another_pod_of_the_suspects_name_is_not_sealed_as_the_suspect(context: Context) -> None:
    contained(context)
    with context.store.read() as session:
        incident = incidents.get(session, "INC-1")
        before = evidence.seals(session, "INC-1")
    gone = incident.target.model_copy(update={"uid": "uid-of-the-one-before"})
    with pytest.raises(TargetError, match="another pod has its name"):
        recapture(context, incident, gone, key="again")
    with context.store.read() as session:
        assert evidence.seals(session, "INC-1") == before


def test_a_log_is_taken_as_far_as_the_policy_says_and_the_seal_tells(with_policy: Callable[..., Context]) -> None:
    """A limit that stops at the configuration would take gigabytes after all."""
    context = with_policy(stream_bytes=3)
    (seal,) = contained(context).seals
    assert not seal.complete
    assert "limit of 3 bytes" in seal.why_incomplete
