"""The one error tree. Every error says what happened, why, and what to do next; only ``cli`` prints or exits.

::

    RingfenceError                         code · what · why · next_step
      ConfigError                          a file or key that is wrong (location)
      TargetError                          a target that is unknown, gone, or not of a supported kind
      Guarded                              a target that a guardrail forbids, before there is an incident
      SelectorError · PolicyError          a label selector or NetworkPolicy that cannot be read (platform/kubernetes)
      StoreError                           our own database cannot be used
        ChainBroken                        a timeline whose hashes do not fit (incident, seq)
      PlatformError                        system · verb · target · effect
        NotSent                            never left this machine: no route, refused, TLS, bad kubeconfig   effect none
        Denied                             401, 403                                                         effect none
        NotFound                           404, 410                                                         effect none
        Conflict                           409: exists, other uid or resourceVersion                        effect none
        Invalid                            400, 422: the server or its admission refused the content        effect none
        Throttled                          429: try later (retry_after)                                     effect none
        Unanswered                         time-out, reset, 5xx: the write may have happened                effect maybe
      EvidenceError                        evidence that cannot be had or kept
        VaultError                         the vault cannot be written or read
        Tampered                           what is stored is not what was sealed (item, expected, actual)
        AuditMismatch                      the timeline and the cluster's audit log do not say the same
        Unverifiable                       a check that could not be made (item, missing)

A refusal within an incident is an ``Outcome`` (model/outcome.py), not an error.
"""

from __future__ import annotations

from enum import Enum, IntEnum


class ExitCode(IntEnum):
    """Exit codes of ``ringfence`` and ``ringfence-verify``: public surface, see docs/reference/exit-codes.md."""

    OK = 0
    INTERNAL = 1
    USAGE = 2
    REFUSED = 3
    NOT_FOUND = 4
    DENIED = 5
    UNREACHABLE = 6
    CONFIG = 7
    STORAGE = 8
    INCOMPLETE = 9
    TAMPERED = 20
    UNVERIFIABLE = 21


class Effect(Enum):
    """Whether a failed request can have changed the other side."""

    NONE = "none"
    MAYBE = "maybe"


class RingfenceError(Exception):
    """Base of every error that Ringfence raises on purpose.

    ``what`` is the sentence that a person reads first, ``why`` the cause in the other side's own words where there
    are any, ``next_step`` one thing to do. ``code`` is stable and meant for machines.
    """

    code = "error"
    exit_code = ExitCode.INTERNAL

    def __init__(self, what: str, *, why: str = "", next_step: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.why = why
        self.next_step = next_step

    def __str__(self) -> str:
        return f"{self.what}: {self.why}" if self.why else self.what


class ConfigError(RingfenceError):
    """A configuration file, key or kubeconfig that cannot be used. ``location`` is ``file`` or ``file: key``."""

    code = "config"
    exit_code = ExitCode.CONFIG

    def __init__(self, what: str, *, location: str, why: str = "", next_step: str = "") -> None:
        super().__init__(what, why=why, next_step=next_step)
        self.location = location


class TargetError(RingfenceError):
    """The target is unknown, gone, or of a kind that this command does not handle."""

    code = "target"
    exit_code = ExitCode.NOT_FOUND


class Guarded(RingfenceError):
    """A guardrail forbids to touch the target at all: nothing was declared, nothing was changed."""

    code = "guarded"
    exit_code = ExitCode.REFUSED


class StoreError(RingfenceError):
    """Ringfence's own database cannot be opened, read or written."""

    code = "store"
    exit_code = ExitCode.STORAGE


class ChainBroken(StoreError):
    """A timeline's hash chain does not fit: an event was changed, removed or inserted."""

    code = "chain-broken"
    exit_code = ExitCode.TAMPERED

    def __init__(self, incident: str, seq: int, why: str) -> None:
        super().__init__(
            f"the timeline of {incident} does not verify at event {seq}",
            why=why,
            next_step="keep the database file as it is and compare with the sealed copies of the timeline",
        )
        self.incident = incident
        self.seq = seq


class PlatformError(RingfenceError):
    """An outside system did not do what was asked.

    ``system`` is for example ``kubernetes``, ``verb`` the API verb (get, list, patch, create, delete), ``target`` the
    object in words (``pods/cards-7d9f in bank``), ``status`` the HTTP status if there was an answer. ``audit_id`` is
    the Audit-ID that the request carried (empty for reads).
    """

    code = "platform"
    exit_code = ExitCode.INCOMPLETE
    effect = Effect.NONE

    def __init__(
        self,
        what: str,
        *,
        system: str,
        verb: str,
        target: str,
        status: int | None = None,
        why: str = "",
        next_step: str = "",
        audit_id: str = "",
    ) -> None:
        super().__init__(what, why=why, next_step=next_step)
        self.system = system
        self.verb = verb
        self.target = target
        self.status = status
        self.audit_id = audit_id


class NotSent(PlatformError):
    """The request never reached the other side: nothing can have happened there."""

    code = "not-sent"
    exit_code = ExitCode.UNREACHABLE


class Denied(PlatformError):
    """Not authenticated or not authorised (401, 403)."""

    code = "denied"
    exit_code = ExitCode.DENIED


class NotFound(PlatformError):
    """The object does not exist (404) or is gone (410)."""

    code = "not-found"
    exit_code = ExitCode.NOT_FOUND


class Conflict(PlatformError):
    """The object exists already, or its uid or resourceVersion is not the one we planned for (409)."""

    code = "conflict"


class Invalid(PlatformError):
    """The server or its admission chain refused the content (400, 422, and 403 by an admission webhook)."""

    code = "invalid"


class Throttled(PlatformError):
    """Too many requests (429). ``retry_after`` in seconds when the server said so."""

    code = "throttled"

    def __init__(self, what: str, *, retry_after: float | None = None, **facts: object) -> None:
        super().__init__(what, **facts)  # type: ignore[arg-type]
        self.retry_after = retry_after


class Unanswered(PlatformError):
    """No usable answer (time-out, reset, 5xx): a write may have happened. Read live state before retrying."""

    code = "unanswered"
    exit_code = ExitCode.UNREACHABLE
    effect = Effect.MAYBE


class EvidenceError(RingfenceError):
    """Evidence that cannot be acquired or kept."""

    code = "evidence"
    exit_code = ExitCode.STORAGE


class VaultError(EvidenceError):
    """The vault cannot be written or read."""

    code = "vault"


class Tampered(EvidenceError):
    """What is stored is not what was sealed. ``item`` names the file, member or entry."""

    code = "tampered"
    exit_code = ExitCode.TAMPERED

    def __init__(self, item: str, *, expected: str, actual: str) -> None:
        super().__init__(
            f"tampered: {item}",
            why=f"expected {expected}, found {actual}",
            next_step="keep this copy aside, verify another copy of the bundle",
        )
        self.item = item
        self.expected = expected
        self.actual = actual


class AuditMismatch(EvidenceError):
    """The timeline and the cluster's own audit log do not say the same: one of them is not what happened, or our
    identity was used outside of Ringfence."""

    code = "audit-mismatch"
    exit_code = ExitCode.TAMPERED


class Unverifiable(EvidenceError):
    """A check could not be made, which says nothing about the evidence. ``missing`` is what the check needs."""

    code = "unverifiable"
    exit_code = ExitCode.UNVERIFIABLE

    def __init__(self, item: str, *, missing: str, next_step: str = "") -> None:
        super().__init__(f"cannot be checked: {item}", why=missing, next_step=next_step)
        self.item = item
        self.missing = missing
