"""What a probe has seen of the cluster's policies is said in plans and in the hand-over of later incidents."""

from __future__ import annotations

from datetime import timedelta

import pytest

from ringfence.model.enforcement import Enforcement
from ringfence.model.plan import Plan
from ringfence.model.timeline import PlanMade
from ringfence.response import handover
from ringfence.response.context import Context, now
from ringfence.response.preview import preview
from ringfence.store import enforcement
from tests.response.steps_of import contained, events, found

pytestmark = pytest.mark.slow  # whole responses, one after the other

WORDS = "a deny-all DID NOT HOLD on node node-9 (doctor --probe in namespace other, 3 h ago)"


def probed(context: Context, cluster: str = "cluster-1") -> None:
    seen = Enforcement(
        cluster=cluster,
        holds=False,
        saw="4 paths get through",
        namespace="other",
        node="node-9",
        at=now() - timedelta(hours=3, minutes=1),
        by="bob",
    )
    with context.store.write() as session:
        enforcement.keep(session, seen)


def caveats(context: Context) -> tuple[str, ...]:
    (plan,) = [one for one in events(context) if isinstance(one, PlanMade) and one.action == "network.quarantine"]
    return plan.caveats


def test_a_cut_and_its_preview_say_it_with_its_age(context: Context) -> None:
    probed(context)
    (shown,) = preview(context, found(context, "cards-1"), shape="auto")
    assert isinstance(shown.plan, Plan)
    assert shown.plan.caveats[0] == WORDS
    contained(context)
    assert caveats(context)[0] == WORDS


def test_what_was_seen_of_another_cluster_is_not_said(context: Context) -> None:
    probed(context, "cluster-2")
    contained(context)
    assert not [words for words in caveats(context) if "deny-all" in words]


def test_the_hand_over_says_it_and_offers_the_node(context: Context) -> None:
    contained(context)
    with context.store.read() as session:
        before = handover.gather(session, "INC-1", at=now())
    probed(context)
    with context.store.read() as session:
        after = handover.gather(session, "INC-1", at=now())
    assert (before.enforcement, after.enforcement) == ("", WORDS)
    assert after.to_json()["enforcement"] == WORDS
    assert "ringfence node INC-1 on --reason …" in after.next_commands
