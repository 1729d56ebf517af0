"""What can happen to a mutating request on its way, and what a step must say of it (pure).

One row for each fault; ``expected`` derives the outcome from what the fault is, not from a list of answers. The page
docs/concepts/when-the-api-fails.md shows ``rows()``, and a test compares them.

``of_node``: a request that the API server passes on to a kubelet. No object shows what became of it, and it is asked
once, whatever a 429 says.
"""

from __future__ import annotations

from dataclasses import dataclass

from ringfence.model.outcome import Outcome
from ringfence.model.plan import Verb
from tests.faults.proxy import Cut, Dribble, Fault, Instead, Relabelled, Spoil, status

JSON = {"Content-Type": "application/json"}
HTML = {"Content-Type": "text/html"}
LOGIN = b"<!doctype html><title>Sign in</title><form action=/login>"
NOT_OURS = b'{"login": "required"}'
EXPIRED = Instead(410, status(410, "Expired", "The provided continue parameter is too old"), JSON)

PAUSE = 0.05
DRIBBLE_SECONDS = 8.0

APPLIED, ALREADY, FAILED, UNKNOWN = "applied", "already", "failed", "unknown"


def answer(code: int, reason: str, message: str, **headers: str) -> Instead:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Instead(code, status(code, reason, message), {**JSON, **named})


DENIED = 'pods "x" is forbidden: User "oncall" cannot patch resource "pods" in API group "" in the namespace "bank"'
ADMISSION = 'admission webhook "validate.kyverno.svc-fail" denied the request: no label may change'

SPOILS: dict[str, Spoil] = {
    "401": answer(401, "Unauthorized", "Unauthorized"),
    "403, the authoriser": answer(403, "Forbidden", DENIED),
    "403, admission": answer(403, "Forbidden", ADMISSION),
    "403, a page": Instead(403, b"<html>Forbidden by policy", HTML),
    "404": answer(404, "NotFound", '"x" not found'),
    "404, a page": Instead(404, b"404 page not found\n", {"Content-Type": "text/plain"}),
    "409": answer(409, "Conflict", "the object has been modified; please apply your changes to the latest version"),
    "422": answer(422, "Invalid", "the server rejected our request due to an error in our request"),
    "429, come back in 1 s": answer(429, "TooManyRequests", "too many requests", Retry_After="1"),
    "429, come back in 1 h": answer(429, "TooManyRequests", "too many requests", Retry_After="3600"),
    "429, no word when": answer(429, "TooManyRequests", "too many requests"),
    "302 to a login page": Instead(302, b"", {"Location": "https://login.example/"}),
    "500": answer(500, "InternalError", "etcdserver: leader changed"),
    "503": Instead(503, b"<html>no healthy upstream", HTML),
    "504": answer(504, "Timeout", "request did not complete within the allotted timeout"),
    "connection cut": Cut(),
    "body cut": Cut(20),
    "200, a login page": Instead(200, LOGIN, HTML),
    "200, other JSON": Instead(200, NOT_OURS, JSON),
    "200, no body": Instead(200, b"", JSON),
    "200, half a body": Instead(200, b'{"kind": "NetworkPolicy", "metadata": {"na', JSON, closes=True),
    "200, wrong content type": Relabelled("text/html"),
    "headers dribble": Dribble("headers", PAUSE, DRIBBLE_SECONDS),
    "body dribbles": Dribble("body", PAUSE, DRIBBLE_SECONDS),
}

_REFUSALS = {401: "denied", 403: "denied", 404: "not-found", 409: "conflict", 422: "invalid", 302: "invalid"}
_NEVER_WITH_EFFECT = ("401", "429", "302")
"""Answers that are given before a request is carried out, by whoever gives them."""
_BEFORE_IT_IS_PASSED_ON = ("403, the authoriser", "403, admission", "404")
"""Answers that the API server gives before it asks a kubelet. (Of its own objects a gateway may have asked twice.)"""


@dataclass(frozen=True)
class Row:
    """One fault. ``arrives``: before, after (carried out, the answer spoilt), or late (carried out after the answer).
    ``blind``: the object cannot be read either until ``reconcile``."""

    name: str
    fault: Fault
    arrives: str
    blind: bool = False

    @property
    def title(self) -> str:
        where = {"before": "not carried out", "after": "carried out", "late": "carried out later"}[self.arrives]
        return f"{self.name}, {where}{', object unreadable' if self.blind else ''}"


@dataclass(frozen=True)
class Want:
    """``kind`` and ``code`` (of a failure) of the outcome; ``then`` the same after ``reconcile``; ``landed``: whether
    the write is in the cluster in the end."""

    kind: str
    code: str
    then: str
    then_code: str
    landed: bool


def rows(*, of_node: bool = False) -> tuple[Row, ...]:
    found: list[Row] = []
    for name, spoil in SPOILS.items():
        if not isinstance(spoil, Relabelled):
            found.append(Row(name, Fault(spoil, reaches=False), "before"))
        if not name.startswith(_NEVER_WITH_EFFECT) and not (of_node and name in _BEFORE_IT_IS_PASSED_ON):
            found.append(Row(name, Fault(spoil, reaches=True), "after"))
    for name in ("504", "connection cut"):
        found.append(Row(name, Fault(SPOILS[name], reaches=True, later=True), "late"))
        if of_node:
            continue
        found.append(Row(name, Fault(SPOILS[name], reaches=False), "before", blind=True))
        found.append(Row(name, Fault(SPOILS[name], reaches=True), "after", blind=True))
    return tuple(found)


def expected(row: Row, verb: Verb, *, witness: bool = False, of_node: bool = False) -> Want:
    """What a step must say. ``witness``: the audit log can be read as well."""
    if of_node:
        return _expected_of_node(row, witness=witness)
    spoil, landed = row.fault.spoil, row.arrives != "before"
    found = APPLIED if witness else ALREADY
    if isinstance(spoil, Relabelled):
        return Want(APPLIED, "", APPLIED, "", True)
    if isinstance(spoil, Instead) and spoil.status == 429:
        if float(spoil.headers.get("Retry-After", "inf")) <= 5:
            return Want(APPLIED, "", APPLIED, "", True)  # asked again, once: it had no effect
        return Want(FAILED, "throttled", FAILED, "throttled", False)
    if row.blind and witness and landed and verb is not Verb.CREATE:  # what was made must be known by its uid
        return Want(APPLIED, "", APPLIED, "", True)
    if row.blind:
        return Want(UNKNOWN, "unanswered", found if landed else FAILED, "" if landed else "not-applied", landed)
    if row.arrives == "late":
        return Want(FAILED, "not-applied", found, "", True)
    if landed:
        # A refusal is explained by live state, where the log is not asked.
        done = ALREADY if _code(row) else found
        return Want(done, "", done, "", True)
    code = _code(row) or "not-applied"
    return Want(FAILED, code, FAILED, code, False)


def _expected_of_node(row: Row, *, witness: bool) -> Want:
    spoil, landed = row.fault.spoil, row.arrives != "before"
    if isinstance(spoil, Relabelled):
        return Want(APPLIED, "", APPLIED, "", True)
    if not landed and (row.name.startswith(_NEVER_WITH_EFFECT) or row.name in _BEFORE_IT_IS_PASSED_ON):
        code = "throttled" if row.name.startswith("429") else _code(row)
        return Want(FAILED, code, FAILED, code, False)
    if landed and witness:
        first = (UNKNOWN, "unanswered") if row.arrives == "late" else (APPLIED, "")
        return Want(*first, APPLIED, "", True)
    return Want(UNKNOWN, "unanswered", UNKNOWN, "unanswered", landed)


def _code(row: Row) -> str:
    """The code of a refusal that the API server vouches for; empty when the answer says nothing about the request."""
    spoil = row.fault.spoil
    if not isinstance(spoil, Instead) or spoil.status not in _REFUSALS:
        return ""
    if row.name == "404, a page":
        return ""
    return "invalid" if row.name == "403, admission" else _REFUSALS[spoil.status]


def code_of(outcome: Outcome) -> str:
    problem = getattr(outcome, "problem", None)
    return problem.code if problem is not None else ""


# --- what somebody else does meanwhile -----------------------------------------------------------------
def interfered(what: str, verb: Verb, *, witness: bool, of_node: bool = False) -> tuple[str, str] | None:
    """Outcome and code when somebody else acts: ``vanished`` before the request, or, after it was carried out and its
    answer lost, ``ended`` (the object is gone) or ``reverted`` (it is as it was). None: cannot be.

    ``of_node``: the object is the node."""
    if of_node:
        after = (APPLIED, "") if witness else (UNKNOWN, "unanswered")
        return {"vanished": (FAILED, "not-found"), "ended": after}.get(what)
    match what, verb:
        case "vanished", Verb.CREATE:
            return None
        case "vanished", Verb.PATCH:
            return FAILED, "not-found"
        case "vanished", Verb.DELETE:
            return ALREADY, ""
        case "reverted", Verb.PATCH:
            return FAILED, "reverted" if witness else "not-applied"
        case "ended", Verb.CREATE:
            return FAILED, "reverted" if witness else "not-applied"
        case "ended", Verb.PATCH:
            return (APPLIED, "") if witness else (FAILED, "not-applied")
        case _:
            return None
