"""Which policy said no, from the words of an admission refusal, and the exemption to ask for (pure).

The words come from policies and objects that others wrote. Nothing of them gets into a manifest but names that have
the form of a Kubernetes name; the rest is quoted as JSON, which YAML reads as the same text.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from enum import StrEnum

_LABEL = r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?"
_NAME = rf"{_LABEL}(?:\.{_LABEL})*"
_LONGEST_NAME = 253
_WEBHOOK = re.compile(rf'admission webhook "(?P<webhook>{_NAME})" denied the request(?::\s*(?P<words>.*))?', re.DOTALL)
_CEL = re.compile(rf"Policy (?P<policy>{_NAME}) (?:failed|error):")
_BLOCKED = re.compile(r"was blocked due to the following policies\s*(?P<policies>.*)", re.DOTALL)
_POLICY = re.compile(rf"(?m)^(?P<policy>{_NAME}):[ \t]*$")
_RULE = re.compile(r"(?m)^[ \t]+(?P<rule>[A-Za-z0-9](?:[-\w.]{0,61}[A-Za-z0-9])?):")
_FLAT = re.compile(rf"^(?P<policy>{_NAME}):\s+(?P<rule>[A-Za-z0-9](?:[-\w.]{{0,61}}[A-Za-z0-9])?):")
_VAP = re.compile(
    rf"ValidatingAdmissionPolicy '(?P<policy>{_NAME})'(?: with binding '(?P<binding>{_NAME})')? denied request"
)
_POD_SECURITY = re.compile(r'violates PodSecurity "(?P<level>privileged|baseline|restricted):')
_GATEKEEPER = re.compile(rf"^\[(?P<policy>{_NAME})\]")
_QUOTA = re.compile(rf"exceeded quota: (?P<policy>{_NAME})")
_KYVERNO = re.compile(r"(?:^|\.)kyverno\.svc(?:-|$)")
_CEL_KINDS = {
    "nvpol": "NamespacedValidatingPolicy",
    "vpol": "ValidatingPolicy",
    "nivpol": "NamespacedImageValidatingPolicy",
    "ivpol": "ImageValidatingPolicy",
}


class System(StrEnum):
    """Whose policy it is; the value is what people call it."""

    KYVERNO = "Kyverno policy"
    KYVERNO_CEL = "Kyverno CEL policy"
    VAP = "ValidatingAdmissionPolicy"
    POD_SECURITY = "Pod Security"
    GATEKEEPER = "Gatekeeper constraint"
    QUOTA = "ResourceQuota"
    WEBHOOK = "admission webhook"
    OTHER = "admission"


@dataclass(frozen=True)
class Denial:
    """``name`` is empty when the words name none; ``kind`` is the policy's kind where the words tell it."""

    system: System
    name: str = ""
    rules: tuple[str, ...] = ()
    binding: str = ""
    kind: str = ""

    def __str__(self) -> str:
        rules = f" (rule {', '.join(self.rules)})" if self.rules else ""
        return f"{self.kind or self.system} {self.name}{rules}".strip()


@dataclass(frozen=True)
class Wanted:
    """What the exemption is for: who asks, and what is written. ``user`` is the name that the cluster knows us by."""

    user: str
    namespace: str
    kinds: tuple[str, ...]
    operations: tuple[str, ...]


def denials(words: str) -> tuple[Denial, ...]:
    """Every policy that the words of a refusal name; none when they are no admission's."""
    if found := _VAP.search(words):
        return (Denial(System.VAP, _name(found["policy"]), binding=_name(found["binding"] or "")),)
    if found := _POD_SECURITY.search(words):
        return (Denial(System.POD_SECURITY, found["level"]),)
    if found := _QUOTA.search(words):
        return (Denial(System.QUOTA, _name(found["policy"])),)
    webhook = _WEBHOOK.search(words)
    if webhook is None:
        return (Denial(System.OTHER),) if "admission refused" in words else ()
    name, said = _name(webhook["webhook"]), webhook["words"] or ""
    if _KYVERNO.search(name):
        return _kyverno(name, said)
    if constraint := _GATEKEEPER.match(said):
        return (Denial(System.GATEKEEPER, _name(constraint["policy"])),)
    return (Denial(System.WEBHOOK, name),)


def exemption(denial: Denial, wanted: Wanted) -> tuple[str, str]:
    """What to ask for, in one sentence, and its manifest where there can be one (YAML, else empty).

    Each exempts the responder's own user and the objects that it writes, not everybody.
    """
    if not denial.name:
        return "ask who runs the cluster's admission for an exemption: it names no policy", ""
    match denial.system:
        case System.KYVERNO:
            return "ask for this exception (Kyverno has exceptions off by default)", _kyverno_exception(denial, wanted)
        case System.KYVERNO_CEL:
            return "ask for this exception (Kyverno has exceptions off by default)", _cel_exception(denial, wanted)
        case System.VAP:
            return f"ask for this to be merged into {denial}: the responder is passed over", _vap(denial, wanted)
        case System.POD_SECURITY:
            return f"ask for a place where {denial.name} does not hold, or for pods that meet it", ""
        case System.GATEKEEPER:
            return f"ask for an exclusion from {denial}, for namespace {wanted.namespace} or for the responder", ""
        case System.QUOTA:
            return f"ask for room in {denial}", ""
        case System.WEBHOOK | System.OTHER:
            return f"ask who runs {denial} to let the responder through", ""


def _kyverno(webhook: str, said: str) -> tuple[Denial, ...]:
    if blocked := _BLOCKED.search(said):
        return _classic(blocked["policies"])
    kind = _CEL_KINDS.get(webhook.partition(".")[0], "")
    named = [_name(found["policy"]) for found in _CEL.finditer(said)]
    if named:
        return tuple(Denial(System.KYVERNO_CEL, name, kind=kind) for name in dict.fromkeys(named))
    return (Denial(System.WEBHOOK, webhook),)


def _classic(policies: str) -> tuple[Denial, ...]:
    """``policy:`` at the start of a line, its rules below it, further in; or all of it on one line."""
    heads = list(_POLICY.finditer(policies))
    if not heads:
        flat = _FLAT.match(policies.strip())
        return (Denial(System.KYVERNO, _name(flat["policy"]), (flat["rule"],)),) if flat else (Denial(System.KYVERNO),)
    ends = [*(head.start() for head in heads[1:]), len(policies)]
    return tuple(
        Denial(System.KYVERNO, _name(head["policy"]), _rules(policies[head.end() : end]))
        for head, end in zip(heads, ends, strict=True)
    )


def _rules(block: str) -> tuple[str, ...]:
    """Rules are at the least depth of the block; what is deeper is a message of several lines."""
    found = list(_RULE.finditer(block))
    depths = [len(one.group()) - len(one.group().lstrip()) for one in found]
    return tuple(one["rule"] for one, depth in zip(found, depths, strict=True) if depth == min(depths))


def _kyverno_exception(denial: Denial, wanted: Wanted) -> str:
    return _yaml(
        "apiVersion: kyverno.io/v2",
        "kind: PolicyException",
        "metadata:",
        f"  name: {_exception_name(denial)}",
        f"  namespace: {wanted.namespace}",
        "spec:",
        "  # the match is by user, which no background scan knows",
        "  background: false",
        "  exceptions:",
        f"    - policyName: {denial.name}",
        f"      ruleNames: {_list(denial.rules or ('*',))}",
        "  match:",
        "    all:",
        "      - resources:",
        f"          kinds: {_list(wanted.kinds)}",
        f"          namespaces: {_list((wanted.namespace,))}",
        f"          operations: {_list(wanted.operations)}",
        "        subjects:",
        "          - kind: User",
        f"            name: {json.dumps(wanted.user)}",
    )


def _cel_exception(denial: Denial, wanted: Wanted) -> str:
    return _yaml(
        "apiVersion: policies.kyverno.io/v1",
        "kind: PolicyException",
        "metadata:",
        f"  name: {_exception_name(denial)}",
        f"  namespace: {wanted.namespace}",
        "spec:",
        "  policyRefs:",
        f"    - kind: {denial.kind or 'ValidatingPolicy'}",
        f"      name: {denial.name}",
        "  matchConditions:",
        "    - name: responder",
        f"      expression: {_expression(wanted.user, '==')}",
    )


def _vap(denial: Denial, wanted: Wanted) -> str:
    return _yaml(
        "apiVersion: admissionregistration.k8s.io/v1",
        "kind: ValidatingAdmissionPolicy",
        "metadata:",
        f"  name: {denial.name}",
        "spec:",
        "  # added to the conditions that are there",
        "  matchConditions:",
        "    - name: not-the-responder",
        f"      expression: {_expression(wanted.user, '!=')}",
    )


def _expression(user: str, operator: str) -> str:
    """A CEL comparison as a YAML text. A JSON string is a CEL string too, and a YAML one."""
    return json.dumps(f"request.userInfo.username {operator} {json.dumps(user)}")


def _exception_name(denial: Denial) -> str:
    return f"ringfence-{denial.name}"[:_LONGEST_NAME].rstrip("-.")


def _list(words: tuple[str, ...]) -> str:
    return "[" + ", ".join(json.dumps(word) for word in words) + "]"


def _yaml(*lines: str) -> str:
    return "\n".join(lines) + "\n"


def _name(text: str) -> str:
    """A name that the words gave, if it is one: too long is none."""
    return text if len(text) <= _LONGEST_NAME else ""
