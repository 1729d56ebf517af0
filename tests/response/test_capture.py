"""Capturing anew: a seal is of the suspect, never of whoever has its name now. What is captured: tests/evidence."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import NoReturn

import pytest

from ringfence.errors import RingfenceError, TargetError
from ringfence.model.evidence import Seal
from ringfence.response.capture import recapture, recapture_all
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


class Died(BaseException):
    """A process that ends where it is: nothing of ours catches it."""


def dying_before_it_seals(context: Context) -> Context:
    """Its sealer records the items and dies before it writes the bundle."""
    sealer = context.sealer()

    def die(*_: object) -> NoReturn:
        raise Died

    dying = copy.copy(sealer)
    object.__setattr__(dying, "_sealed", die)
    return replace(context, sealer=lambda: dying)


def test_what_a_collection_that_died_had_recorded_is_sealed_by_the_next(context: Context) -> None:
    contained(context)
    with context.store.read() as session:
        incident = incidents.get(session, "INC-1")
        before = {seal.id for seal in evidence.seals(session, "INC-1")}
    with pytest.raises(Died):
        list(recapture_all(dying_before_it_seals(context), incident))
    with context.store.read() as session:
        assert len(evidence.unsealed_captures(session, "INC-1")) == 1
    made = list(recapture_all(context, incident))
    with context.store.read() as session:
        assert evidence.unsealed_captures(session, "INC-1") == ()
        after = [seal.id for seal in evidence.seals(session, "INC-1") if seal.id not in before]
    assert [seal.id for _, seal in made if isinstance(seal, Seal)] == after
    assert len(after) == 2, "what was recorded, and what is there now"


def test_what_cannot_be_sealed_does_not_stand_in_the_way_of_the_next(context: Context) -> None:
    contained(context)
    with context.store.read() as session:
        incident = incidents.get(session, "INC-1")
    with pytest.raises(Died):
        list(recapture_all(dying_before_it_seals(context), incident))
    with context.store.write() as session:
        (capture,) = evidence.unsealed_captures(session, "INC-1")
        (item, *_) = [one for one in evidence.items(session, "INC-1", capture) if one.blob is not None]
    assert item.blob is not None
    stored = context.vault.blobs("INC-1").path / item.blob.stored_sha256
    stored.chmod(0o600)
    stored.write_bytes(b"other")
    left, _ = (made for _, made in recapture_all(context, incident))
    assert isinstance(left, RingfenceError)
