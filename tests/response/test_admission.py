"""Which policy said no, in the words that Kubernetes 1.34, Kyverno 1.19 and others really use; and that nothing of
those words gets into a manifest but a name."""

from __future__ import annotations

import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ringfence.response.readiness.admission import Denial, System, Wanted, denials, exemption

WANTED = Wanted(user="system:serviceaccount:sec:responder", namespace="bank", kinds=("Pod",), operations=("UPDATE",))
BEFORE = "admission refused to patch pods/cards-1 in bank: 400: "
WORDS = {
    'admission webhook "validate.kyverno.svc-fail" denied the request: \n\nresource Pod/bank/cards-1 was blocked due '
    "to the following policies \n\nfixed-labels:\n  no-relabel: |\n    validation error: x.\n    rule: y\nrequired:\n"
    "  team: 'needs a team'\n  owner: needs an owner\n": (
        Denial(System.KYVERNO, "fixed-labels", ("no-relabel",)),
        Denial(System.KYVERNO, "required", ("team", "owner")),
    ),
    # As one line, which is how a log or a problem's text may have it.
    'admission webhook "validate.kyverno.svc-fail" denied the request: resource Pod/bank/cards-1 was blocked due '
    "to the following policies fixed-labels: no-relabel: labels may not be changed": (
        Denial(System.KYVERNO, "fixed-labels", ("no-relabel",)),
    ),
    'admission webhook "nvpol.validate.kyverno.svc-fail" denied the request: Policy labels-of-pods-are-fixed failed: '
    "the labels of a pod may not be changed": (
        Denial(System.KYVERNO_CEL, "labels-of-pods-are-fixed", kind="NamespacedValidatingPolicy"),
    ),
    'admission webhook "vpol.validate.kyverno.svc-fail-finegrained-x" denied the request: Policy a failed: x; Policy b '
    "error: y": (
        Denial(System.KYVERNO_CEL, "a", kind="ValidatingPolicy"),
        Denial(System.KYVERNO_CEL, "b", kind="ValidatingPolicy"),
    ),
    "pods \"cards-1\" is forbidden: ValidatingAdmissionPolicy 'no-relabel.example.com' with binding 'everywhere' "
    "denied request: labels are fixed": (Denial(System.VAP, "no-relabel.example.com", binding="everywhere"),),
    'pods "x" is forbidden: violates PodSecurity "restricted:latest": allowPrivilegeEscalation != false': (
        Denial(System.POD_SECURITY, "restricted"),
    ),
    'admission webhook "validation.gatekeeper.sh" denied the request: [pods-must-have-owner] you must provide labels': (
        Denial(System.GATEKEEPER, "pods-must-have-owner"),
    ),
    'pods "x" is forbidden: exceeded quota: small, requested: pods=1, used: pods=5, limited: pods=5': (
        Denial(System.QUOTA, "small"),
    ),
    'admission webhook "guard.example.com" denied the request: no': (Denial(System.WEBHOOK, "guard.example.com"),),
    'admission webhook "guard.example.com" denied the request without explanation': (
        Denial(System.WEBHOOK, "guard.example.com"),
    ),
    "422: something that we have no words for": (Denial(System.OTHER),),
}


@pytest.mark.parametrize(("words", "expected"), WORDS.items())
def test_each_systems_words_name_its_policy(words: str, expected: tuple[Denial, ...]) -> None:
    assert denials(BEFORE + words) == expected


@pytest.mark.parametrize(
    "words", ["", "the pod uses its node's network", 'User "x" cannot patch resource "pods"', "not cut: no answer"]
)
def test_what_is_no_admissions_word_is_no_denial(words: str) -> None:
    assert denials(words) == ()


def test_a_name_of_another_form_is_none() -> None:
    assert denials('admission webhook "x\n- evil: true" denied the request: no')[:1] == ()
    assert denials("admission refused: ValidatingAdmissionPolicy 'A B' denied request")[0].name == ""


@pytest.mark.parametrize(
    ("denial", "api", "kind"),
    [
        (Denial(System.KYVERNO, "fixed", ("a", "b")), "kyverno.io/v2", "PolicyException"),
        (Denial(System.KYVERNO, "fixed"), "kyverno.io/v2", "PolicyException"),
        (
            Denial(System.KYVERNO_CEL, "fixed", kind="NamespacedValidatingPolicy"),
            "policies.kyverno.io/v1",
            "PolicyException",
        ),
        (Denial(System.VAP, "fixed"), "admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicy"),
    ],
)
@pytest.mark.parametrize("user", ["alice", 'a"b', "x: y\n- z", "o'brien \\ é", "#"])
def test_the_exemption_is_for_the_responder_alone(denial: Denial, api: str, kind: str, user: str) -> None:
    _, manifest = exemption(denial, Wanted(user, "bank", ("Pod", "NetworkPolicy"), ("CREATE", "UPDATE")))
    assert manifest.isascii()
    parsed = yaml.safe_load(manifest)
    assert (parsed["apiVersion"], parsed["kind"]) == (api, kind)
    if denial.system is System.KYVERNO:
        (match,) = parsed["spec"]["match"]["all"]
        assert match["subjects"] == [{"kind": "User", "name": user}]
        assert match["resources"]["operations"] == ["CREATE", "UPDATE"]
        assert parsed["spec"]["exceptions"] == [{"policyName": "fixed", "ruleNames": list(denial.rules or ("*",))}]
        assert parsed["spec"]["background"] is False
    else:
        (condition,) = parsed["spec"]["matchConditions"]
        operator, _, quoted = condition["expression"].removeprefix("request.userInfo.username ").partition(" ")
        assert json.loads(quoted) == user
        assert operator == ("!=" if denial.system is System.VAP else "==")


@pytest.mark.parametrize("system", list(System))
def test_every_system_has_something_to_ask_for(system: System) -> None:
    for denial in (Denial(system), Denial(system, "x")):
        ask, _ = exemption(denial, WANTED)
        assert "ask" in ask


@given(st.text(max_size=300), st.sampled_from(sorted(WORDS)))
def test_hostile_words_break_nothing(words: str, known: str) -> None:
    for text in (words, f"{BEFORE}{words}", known.replace("fixed", words), known + words):
        for denial in denials(text):
            _, manifest = exemption(denial, WANTED)
            assert manifest.replace("\n", "").isprintable()
            if manifest:
                assert yaml.safe_load(manifest)["metadata"]["name"]


def test_long_words_take_no_long_time() -> None:
    for words in ("a." * 20_000, 'admission webhook "' + "a" * 40_000, "exceeded quota: " + "a-" * 20_000):
        denials(words)
