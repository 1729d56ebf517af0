"""The five-second screen: what it may say in every combination of rows, and hostile text on a terminal.

The rows themselves: tests/access. The screen of a real containment: tests/lab/test_containment.py.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringfence.actions.fence import refused_by_cluster
from ringfence.cli import screen
from ringfence.cli.text import clean
from ringfence.cli.view import Customers, View
from ringfence.cli.views import exit_code
from ringfence.errors import ExitCode
from ringfence.model.access import Acceptance, AccessPath, PathState
from ringfence.model.enforcement import Enforcement
from ringfence.model.incident import Incident, Severity, State
from ringfence.model.objects import ObjectRef
from ringfence.model.outcome import Already, Applied, Failed, Outcome, Problem, Refused, Skipped, Unknown
from ringfence.model.proof import Level
from ringfence.model.run import StepRun

NOW = datetime(2026, 11, 23, 3, 0, tzinfo=UTC)
PATHS = (
    "network.egress",
    "network.ingress",
    "network.established",
    "network.dns",
    "identity.kubernetes",
    "siblings.image",
    "siblings.account",
    "workload.replacement",
    "node",
)


INCIDENT_POD = ObjectRef(cluster="c1", api_version="v1", kind="Pod", namespace="bank", name="cards-1", uid="u1")


def row(path: str, state: PathState, why: str = "because") -> AccessPath:
    return AccessPath(
        path=path,
        title=path,
        state=state,
        level=Level.OBSERVED if state is PathState.DEAD else Level.COMPUTED,
        why=why,
        as_of=NOW,
        acceptance=Acceptance(principal="c/alice", reason="known", at=NOW, state=PathState.UNSEEN)
        if state is PathState.ACCEPTED
        else None,
    )


def view(rows: tuple[AccessPath, ...], *, name: str = "cards-1", **changes: object) -> View:
    incident = Incident(
        id="INC-1",
        cluster="c1",
        target=ObjectRef(cluster="c1", api_version="v1", kind="Pod", namespace="bank", name=name, uid="u1"),
        type="compromised-workload",
        severity=Severity.CRITICAL,
        state=State.CONTAINING,
        title="beacon",
        declared_at=NOW,
        declared_by="c/alice",
        fence="f00d",
        seq=1,
        head_hash="0" * 64,
    )
    facts: dict[str, object] = {
        "incident": incident,
        "rows": rows,
        "customers": (Customers("cards", 1, 2, 0),),
        "customers_known": True,
        "same_image": 1,
        "same_account": 1,
        "seals": (),
        "items": (),
        "evidence_problem": "",
        "unread": "",
    }
    return View(**{**facts, **changes})  # type: ignore[arg-type]


def shown(capsys: pytest.CaptureFixture[str], of: View) -> str:
    screen.show(of)
    screen.show_rows(of.rows)
    return capsys.readouterr().out


states = st.dictionaries(st.sampled_from(PATHS), st.sampled_from(PathState), min_size=0)


@given(by_path=states)
def test_no_screen_says_contained_while_a_row_is_open(by_path: dict[str, PathState]) -> None:
    import contextlib
    import io

    rows = tuple(row(path, state) for path, state in by_path.items())
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        screen.show(view(rows))
        screen.show_rows(rows)
    said = re.sub(r"NOT (FULLY )?CONTAINED", "", printed.getvalue(), flags=re.IGNORECASE)
    finished = bool(rows) and not any(one.is_open for one in rows)
    assert ("contained" in said.lower()) == finished


@pytest.mark.parametrize(
    "outcome",
    [
        Refused(reason="no"),
        Skipped(reason="no"),
        Failed(problem=Problem(code="x", what="no")),
        Unknown(problem=Problem(code="x", what="no")),
    ],
)
def test_a_cut_that_was_not_made_is_never_shown_as_one(capsys: pytest.CaptureFixture[str], outcome: Outcome) -> None:
    text = shown(capsys, view((row("network.egress", PathState.UNSEEN),), outcome=outcome, outcome_of="contain"))
    assert "NOT CUT" in text
    assert "new traffic cut" not in text


FENCED = {"network.egress": PathState.UNSEEN, "network.ingress": PathState.UNSEEN}
NODE_ON, CUT_IDENTITY = "ringfence node INC-1 on --reason …", "ringfence cut-identity INC-1"


@pytest.mark.parametrize(
    ("states", "offered"),
    [
        ({"network.established": PathState.ALIVE, "identity.kubernetes": PathState.ALIVE}, [NODE_ON, CUT_IDENTITY]),
        ({"network.established": PathState.UNSEEN, "identity.kubernetes": PathState.DEAD}, [NODE_ON]),
        ({"network.established": PathState.DEAD, "identity.kubernetes": PathState.ALIVE}, [CUT_IDENTITY]),
        # A token of a pod that is gone is not shown dead, but nothing is left to cut.
        ({"network.established": PathState.DEAD, "identity.kubernetes": PathState.UNSEEN}, []),
        ({"network.established": PathState.ACCEPTED, "identity.kubernetes": PathState.ACCEPTED}, []),
        # The fence comes first.
        ({"network.egress": PathState.ALIVE, "network.established": PathState.ALIVE}, []),
    ],
)
def test_what_lives_on_behind_the_fence_is_offered_its_end(
    capsys: pytest.CaptureFixture[str], states: dict[str, PathState], offered: list[str]
) -> None:
    rows = tuple(row(path, state) for path, state in {**FENCED, **states}.items())
    said = shown(capsys, view(rows))
    (line,) = [one for one in said.splitlines() if one.startswith("NEXT")]
    commands = line.removeprefix("NEXT").strip().split(" · ")
    assert commands == ["ringfence status INC-1", *offered, "ringfence eradicate INC-1", "ringfence release INC-1"]


def test_a_refused_eradication_does_not_read_as_an_open_network(capsys: pytest.CaptureFixture[str]) -> None:
    rows = (row("network.egress", PathState.UNSEEN), row("network.ingress", PathState.UNSEEN))
    refused = Refused(reason="the seal is old", next_step="ringfence evidence collect INC-1")
    text = shown(capsys, view(rows, outcome=refused, outcome_of="eradicate"))
    assert "NOT DONE: refused: the seal is old" in text
    assert "NOT CUT" not in text
    assert "ringfence evidence collect INC-1" in text.splitlines()[-1] or "evidence collect" in text


def test_where_admission_refuses_the_cut_next_is_the_cut_on_the_node(capsys: pytest.CaptureFixture[str]) -> None:
    rows = (row("network.egress", PathState.ALIVE),)
    refused = refused_by_cluster(INCIDENT_POD, {"spec": {"nodeName": "node-1"}}, "a webhook says no")
    text = shown(capsys, view(rows, outcome=refused, outcome_of="contain"))
    assert "ringfence node INC-1 on --reason … · ringfence node INC-1 cut" in text


def test_a_fence_that_traffic_was_seen_to_pass_is_offered_the_cut_on_the_node(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Not one that is open by what policies say: then they are what has to be put right."""
    passed = row("network.egress", PathState.ALIVE).model_copy(update={"level": Level.OBSERVED})
    assert NODE_ON in shown(capsys, view((passed,)))
    text = shown(capsys, view((passed,), helper_on=True))
    assert "ringfence node INC-1 cut" in text
    assert NODE_ON not in text
    assert "ringfence node" not in shown(capsys, view((row("network.egress", PathState.ALIVE),)))


def test_a_cut_that_failed_while_only_the_helper_is_off_is_offered_the_node(capsys: pytest.CaptureFixture[str]) -> None:
    failed = Failed(problem=Problem(code="x", what="no answer"))
    off = Refused(reason="the node helper is off", next_step="ringfence node INC-1 on --reason WHY")
    rows = (row("network.egress", PathState.ALIVE),)
    steps = (step_of("node.cut", off),)
    assert "ringfence node INC-1 cut" in shown(capsys, view(rows, outcome=failed, outcome_of="contain", steps=steps))
    held = Refused(reason="cards would have 0 of 2", next_step="the same command with --accept-outage")
    steps = (step_of("node.cut", held),)
    assert "ringfence node" not in shown(capsys, view(rows, outcome=failed, outcome_of="contain", steps=steps))


def step_of(action: str, outcome: Outcome) -> StepRun:
    return StepRun(
        run="INC-1/run/1", step="x", target_uid="u1", action=action, outcome=outcome, proof=None, finished_at=NOW
    )


def test_a_pod_that_is_on_no_node_has_no_cut_on_the_node(capsys: pytest.CaptureFixture[str]) -> None:
    refused = refused_by_cluster(INCIDENT_POD, {"spec": {}}, "a webhook says no")
    text = shown(capsys, view((row("network.egress", PathState.ALIVE),), outcome=refused, outcome_of="contain"))
    assert "ringfence node" not in text


def test_a_computed_cut_says_that_it_is_not_proven(capsys: pytest.CaptureFixture[str]) -> None:
    rows = (row("network.egress", PathState.UNSEEN), row("network.ingress", PathState.UNSEEN))
    text = shown(capsys, view(rows, outcome=Applied(), seconds_to_cut=0.42))
    assert "new traffic cut in 0.4 s: computed, NOT YET PROVEN" in text


def test_what_a_probe_has_seen_stands_beside_what_is_only_computed(capsys: pytest.CaptureFixture[str]) -> None:
    seen = Enforcement(cluster="c1", holds=False, saw="4 paths", namespace="bank", node="n", at=NOW, by="bob")
    words = "a deny-all DID NOT HOLD on node n\x1b[2J (3 h ago)"
    rows = (row("network.egress", PathState.UNSEEN), row("network.ingress", PathState.UNSEEN))
    text = shown(capsys, view(rows, enforcement=seen, enforcement_words=words))
    assert "NOT YET PROVEN (a deny-all DID NOT HOLD on node n" in text
    assert "\x1b" not in text
    assert NODE_ON in text
    proven = tuple(one.model_copy(update={"state": PathState.DEAD, "level": Level.PROVEN}) for one in rows)
    text = shown(capsys, view(proven, enforcement=seen, enforcement_words=words))
    assert "DID NOT HOLD" not in text
    assert NODE_ON not in text


def test_one_open_direction_is_not_hidden_by_the_other(capsys: pytest.CaptureFixture[str]) -> None:
    rows = (row("network.egress", PathState.ALIVE, "allow-dns: UDP 53"), row("network.ingress", PathState.UNSEEN))
    text = shown(capsys, view(rows, outcome=Applied(), seconds_to_cut=0.4))
    assert "STILL OPEN" in text
    assert "allow-dns: UDP 53" in text


def test_evidence_that_was_not_sealed_is_said_and_is_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    of = view((row("network.egress", PathState.UNSEEN),), outcome=Applied(), evidence_problem="the vault is full")
    assert "NOT SEALED: the vault is full" in shown(capsys, of)
    assert exit_code(of) is ExitCode.STORAGE


@pytest.mark.parametrize(
    ("outcome", "code"),
    [
        (None, ExitCode.OK),
        (Applied(), ExitCode.OK),
        (Already(reason="so"), ExitCode.OK),
        (Refused(reason="no"), ExitCode.REFUSED),
        (Skipped(reason="no"), ExitCode.REFUSED),
        (Failed(problem=Problem(code="x", what="no")), ExitCode.INCOMPLETE),
        (Unknown(problem=Problem(code="x", what="no")), ExitCode.INCOMPLETE),
    ],
)
def test_open_rows_are_a_finding_and_only_what_was_not_done_is_a_failure(
    outcome: Outcome | None, code: ExitCode
) -> None:
    assert exit_code(view((row("network.egress", PathState.ALIVE),), outcome=outcome)) is code


def test_unread_siblings_are_not_counted_as_none(capsys: pytest.CaptureFixture[str]) -> None:
    rows = (row("siblings.image", PathState.UNSEEN), row("siblings.account", PathState.UNSEEN))
    assert "same image not counted: open" in shown(capsys, view(rows, same_image=None, same_account=None))


HOSTILE = [
    "\x1b[2J\x1b[31mCONTAINED",
    "\x1b]0;owned\x07",
    "\x9b31m",
    "a\rNOT",
    "a\nNEXT  rm -rf /",
    "\u202egnp.exe",
    "\u2066x\u2069",
    "\ud800",
    "\x00",
    "[red]markup[/red]",
    "{0.__class__}",
    "%s%n",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_reaches_no_terminal(capsys: pytest.CaptureFixture[str], text: str) -> None:
    rows = (row("network.egress", PathState.ALIVE, text), row("node", PathState.ALIVE, text))
    printed = shown(capsys, view(rows, name=text, evidence_problem=text, unread=text, customers=()))
    assert not re.search(
        "[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", printed
    )
    assert "\nNEXT  rm" not in printed


@given(text=st.text())
def test_clean_text_is_one_printable_line(text: str) -> None:
    assert clean(text).isprintable() or clean(text) == ""
    assert len(clean(text).splitlines()) <= 1


def test_what_is_printable_already_stays_as_it_is() -> None:
    assert clean("Grüße, 10.0.0.1 → cards-7d9f/日本") == "Grüße, 10.0.0.1 → cards-7d9f/日本"
