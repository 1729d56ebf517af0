"""Approvals on a simulated API: who may say yes to what, and that silence is a no."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from ringfence.errors import Guarded, TargetError
from ringfence.model.incident import State
from ringfence.model.outcome import Refused
from ringfence.model.principal import Principal
from ringfence.model.run import Ceiling, Decision, Run, RunState
from ringfence.response import consent, verbs
from ringfence.response import context as context_module
from ringfence.response.context import Context
from ringfence.response.results import Result
from ringfence.response.verbs import Wish
from ringfence.store import approvals, incidents, runs
from tests.response.steps_of import conductor, found, is_fenced
from tests.simulator import Simulator

pytestmark = pytest.mark.slow  # whole responses, one after the other

WithPolicy = Callable[..., Context]


def somebody(context: Context, name: str = "bob", kind: str = "kubernetes") -> Context:
    return replace(context, principal=Principal(issuer="kubernetes:cluster-1", subject=name, kind=kind))


def asked(context: Context, **wish: object) -> Result:
    """The whole playbook: it cuts, seals, and waits for a person."""
    return verbs.respond(
        context, conductor(context), verbs.COMPROMISED, found(context, "cards-1"), Wish(command="respond", **wish)
    )


def run_of(context: Context) -> Run:
    with context.store.read() as session:
        return runs.of_incident(session, "INC-1")[-1]


def go_on(context: Context) -> Result:
    return verbs.carry_on(context, conductor(context), run_of(context).id)


def test_a_run_cuts_first_and_then_waits_for_a_person(context: Context, api: Simulator) -> None:
    result = asked(context)
    assert result.run.state is RunState.WAITING
    assert is_fenced(api)
    assert result.seals[0].complete


def test_a_yes_lets_the_run_go_on_to_its_end(context: Context, api: Simulator) -> None:
    asked(context)
    decided = consent.decide(somebody(context), "INC-1", Decision.APPROVED, reason="go")
    assert decided.decided_by.endswith("/bob")
    result = go_on(context)
    assert result.run.state is RunState.DONE
    assert result.done("pod.delete")
    with context.store.read() as session:
        assert incidents.get(session, "INC-1").state is State.RECOVERING


def test_a_no_ends_the_run_and_nothing_dies(context: Context, api: Simulator) -> None:
    asked(context)
    consent.decide(somebody(context), "INC-1/approval/1", Decision.REJECTED, reason="not yet")
    result = go_on(context)
    assert result.run.state is RunState.FAILED
    approve = next(step for step in result.steps if step.action == "human.approve")
    assert isinstance(approve.outcome, Refused)
    assert "not yet" in approve.outcome.reason
    assert is_fenced(api), "what is in force stays"


def test_silence_is_a_no(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    asked(context)
    late = datetime.now(UTC) + timedelta(hours=2)
    for module in (consent, context_module):
        monkeypatch.setattr(module, "now", lambda: late)
    with pytest.raises(TargetError, match="expired"):
        consent.decide(somebody(context), "INC-1", Decision.APPROVED, reason="too late")
    result = go_on(context)
    assert result.run.state is RunState.FAILED
    with context.store.read() as session:
        assert approvals.get(session, "INC-1/approval/1").decision is Decision.EXPIRED


def test_a_decision_is_made_once(context: Context) -> None:
    asked(context)
    consent.decide(somebody(context), "INC-1/approval/1", Decision.APPROVED, reason="go")
    with pytest.raises(TargetError, match="decided"):
        consent.decide(somebody(context, "eve"), "INC-1/approval/1", Decision.REJECTED, reason="no")


def test_a_name_that_nobody_vouches_for_approves_nothing(context: Context) -> None:
    asked(context)
    with pytest.raises(Guarded, match="cannot approve"):
        consent.decide(somebody(context, "root", kind="local"), "INC-1", Decision.APPROVED, reason="go")


def test_above_the_cap_it_must_be_somebody_else(with_policy: WithPolicy) -> None:
    context = with_policy(blast_radius_pods=0)
    asked(context)
    with pytest.raises(Guarded, match="second person"):
        consent.decide(context, "INC-1", Decision.APPROVED, reason="my own idea")
    assert consent.decide(somebody(context), "INC-1", Decision.APPROVED, reason="agreed").decision is Decision.APPROVED


def test_an_approval_of_another_cluster_is_not_ours(context: Context) -> None:
    asked(context)
    with pytest.raises(TargetError, match="another cluster"):
        consent.decide(replace(context, cluster_id="cluster-2"), "INC-1", Decision.APPROVED, reason="go")


def test_who_says_nothing_of_which_one_gets_an_error_that_names_them(context: Context) -> None:
    with pytest.raises(TargetError, match="no incident"):
        consent.decide(context, "INC-9", Decision.APPROVED, reason="")
    asked(context)
    consent.decide(somebody(context), "INC-1", Decision.APPROVED, reason="go")
    with pytest.raises(TargetError, match="no approvals that wait"):
        consent.decide(somebody(context), "INC-1", Decision.APPROVED, reason="go")


@pytest.mark.parametrize(
    ("wider", "holds"),
    [
        (Ceiling(actions=("pod.delete",), targets=("Pod a/x",), pods=1), True),
        (Ceiling(actions=("pod.delete",), targets=("Pod a/x",), pods=2), False),
        (Ceiling(actions=("pod.delete",), targets=("Pod a/x", "Pod a/y"), pods=1), False),
        (Ceiling(actions=("node.cordon",), targets=("Pod a/x",), pods=1), False),
    ],
)
def test_a_yes_holds_for_what_fits_inside_it_and_for_nothing_more(wider: Ceiling, holds: bool) -> None:
    said = Ceiling(actions=("pod.delete", "fence.lift"), targets=("Pod a/x",), pods=1)
    assert said.covers(wider) is holds
