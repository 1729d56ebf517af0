"""The sections of the configuration: their keys, what each may be, and what it is when nobody says."""

import os
import re
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from ringfence.model.incident import Severity

_HTTP = "^https?://[^/?#]+"
_DESTINATION = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?):(?P<port>[0-9]{1,5})")


def _state_home() -> Path:
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "ringfence"


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class ClusterSection(Section):
    """How the cluster is reached. ``kubeconfig`` and ``context`` default to kubectl's."""

    kubeconfig: Path | None = None
    context: str | None = None
    timeout_seconds: float = Field(default=10.0, gt=0, le=300)


class StoreSection(Section):
    """``url`` is an SQLAlchemy URL."""

    url: str = Field(default_factory=lambda: f"sqlite:///{_state_home() / 'ringfence.db'}")


class S3Section(Section):
    """A bucket that gets a copy of every sealed bundle. Credentials come by AWS's usual chain, never from here.

    ``object_lock`` is the mode in which a copy is locked for ``retain_days``, ``legal_hold`` holds it beyond.
    """

    bucket: str = Field(min_length=3)
    prefix: str = ""
    region: str | None = None
    endpoint_url: str | None = Field(default=None, pattern=_HTTP)
    object_lock: Literal["compliance", "governance", "none"] = "compliance"
    retain_days: int = Field(default=1825, ge=1, le=36500)
    legal_hold: bool = False

    @field_validator("endpoint_url")
    @classmethod
    def _no_credentials(cls, value: str | None) -> str | None:
        if value is not None and "@" in value:
            raise ValueError("no credentials here: they come by AWS's usual chain")
        return value

    @property
    def place(self) -> str:
        """How the place is named in the record."""
        return f"{self.endpoint_url.rstrip('/')}/{self.bucket}" if self.endpoint_url else f"s3://{self.bucket}"


class VaultSection(Section):
    """The folder of evidence and sealed bundles. ``retention_days``: for how long after the incident was closed nothing
    of its evidence may be disposed of. ``encryption_key``: a file with 32 bytes in base64; new evidence is encrypted
    with it. ``s3``: where copies of bundles go; none: nowhere.
    """

    path: Path = Field(default_factory=lambda: _state_home() / "vault")
    retention_days: int = Field(default=1825, ge=0, le=36500)
    encryption_key: Path | None = None
    s3: S3Section | None = None


class EvidenceSection(Section):
    """How much evidence is taken at most: an attacker may write as much as they like.

    ``stream_mebibytes`` and ``stream_seconds`` bound each stream: a container's log, what the node helper sends. One
    that is cut keeps the evidence gate shut, and what had come of it lies beside. ``answer_mebibytes`` bounds what one
    answer of the API server, or one list with all its pages, may bring into memory.
    """

    stream_mebibytes: int = Field(default=2048, ge=1, le=1048576)
    stream_seconds: float = Field(default=900.0, gt=0, le=86400)
    answer_mebibytes: int = Field(default=256, ge=16, le=4096)


class SigningSection(Section):
    """The private key (PEM, ECDSA P-256) that seals; made at the first use when there is none.

    ``timestamp_url``: a time-stamping authority (RFC 3161) that stamps each seal; none: no stamps. It learns digests
    and times. ``timestamp_roots``: the root certificates (PEM) below which a stamp is believed.
    """

    key: Path = Field(default_factory=lambda: _state_home() / "keys" / "seal.pem")
    timestamp_url: str | None = Field(default=None, pattern=_HTTP)
    timestamp_roots: Path | None = None

    @model_validator(mode="after")
    def _has_roots(self) -> Self:
        if self.timestamp_url is not None and self.timestamp_roots is None:
            raise ValueError("timestamp_url needs timestamp_roots: a stamp that nobody can check is none")
        return self


class ContainmentSection(Section):
    """``serving_floor``: ready pods that each Service keeps; below it the operator is asked.

    ``pre_cut_wait_ms``: how long at most the cut waits for log streams to open. ``seal_max_age_seconds``: how old a
    seal may be for a destructive step. ``delete_wait_seconds``: how long to wait for a deleted pod to be gone.
    """

    serving_floor: int = Field(default=1, ge=0)
    pre_cut_wait_ms: int = Field(default=200, ge=0, le=200)
    seal_max_age_seconds: int = Field(default=900, gt=0)
    delete_wait_seconds: int = Field(default=90, gt=0)
    token_canary: bool = True


class IdentitySection(Section):
    """``restore_bindings``: ``rbac`` renders the right to ``bind`` roles, which is as good as every right there is.

    With it ``undo`` puts bindings back, and one of several subjects can be taken out of a binding. Without it that is
    possible only for roles whose rights we have; other bindings are handed out as manifests.

    ``legacy_tokens``: enables ``identity.delete_tokens``, and ``rbac`` renders its right to list Secrets. Only their
    metadata is asked for; but RBAC knows no metadata, and who has the right can read every Secret.
    """

    restore_bindings: bool = False
    legacy_tokens: bool = False


class GuardrailsSection(Section):
    """Limits that are the engine's, whatever a playbook says.

    ``blast_radius_pods``: pods of a run that may end, or whose cut breaks a Service's floor, before a second person is
    asked. ``hourly_pods``: the same over all incidents of an hour; ``critical_reserve`` of it (0 to 1) is kept for
    critical ones, so that decoys cannot use it up. ``approval_minutes``: how long an approval may be given; then it is
    a no. ``lease_minutes``: how long a cut stands before somebody is asked to look again; nothing reverts by itself.
    """

    blast_radius_pods: int = Field(default=10, ge=0)
    hourly_pods: int = Field(default=60, ge=1)
    critical_reserve: float = Field(default=0.5, ge=0, le=1)
    approval_minutes: int = Field(default=60, ge=1, le=1440)
    lease_minutes: int = Field(default=480, ge=1)


class RecoverySection(Section):
    """``real_requests``: ``recover`` asks restored pods over HTTP, through the API server's proxy. ``rbac`` renders the
    right to that, with which any HTTP port of any pod can be read.
    """

    real_requests: bool = True


class ProtectedSection(Section):
    """What no playbook and no command may touch."""

    namespaces: tuple[str, ...] = ("kube-system", "kube-public", "kube-node-lease", "ringfence")
    label: str = "ringfence.dev/protected"


class ActionsSection(Section):
    """``enabled``: the actions that may be used here; ``rbac`` renders rights for these alone. Default: all."""

    enabled: tuple[str, ...] | None = Field(default=None, min_length=1)


class CanarySection(Section):
    """The network canary: throw-away pods that try a fence on packets, with ``--canary``; ``enabled``: at every cut.

    ``image`` has ``python3`` on its path; the canary needs it. ``namespace`` is where a peer of another namespace
    starts; none: paths from and to other namespaces are not tried. ``seconds`` bounds each of its phases (four with the
    start). ``destinations``: further addresses ``HOST:PORT`` (TCP) that are tried, eight at most.
    """

    enabled: bool = False
    image: str | None = Field(default=None, min_length=1)
    namespace: str | None = Field(default=None, pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")
    image_pull_policy: Literal["IfNotPresent", "Always", "Never"] = "IfNotPresent"
    seconds: int = Field(default=20, ge=5, le=120)
    destinations: tuple[str, ...] = Field(default=(), max_length=8)

    @field_validator("destinations")
    @classmethod
    def _addresses(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for one in value:
            found = _DESTINATION.fullmatch(one)
            if found is None or not 0 < int(found["port"]) < 65536:
                raise ValueError(f"{one!r} is not HOST:PORT")
        return value

    @model_validator(mode="after")
    def _has_image(self) -> Self:
        if self.enabled and self.image is None:
            raise ValueError("enabled needs image: name one that has python3")
        return self


class NodeHelperSection(Section):
    """The node helper: a privileged pod on a suspect's node, for ``ringfence node``. Off by default; switched on per
    incident, with rights of its own (``ringfence rbac --node-helper``).

    ``image`` has ``python3`` on its path; nothing else of it is used. ``namespace`` is where its pods start: its own,
    which admits privileged pods and where nobody else may make any. ``seconds`` bounds a run, ``collect_mebibytes``
    what is collected of one pod.
    """

    enabled: bool = False
    image: str | None = Field(default=None, min_length=1)
    namespace: str = Field(default="ringfence-node", pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")
    image_pull_policy: Literal["IfNotPresent", "Always", "Never"] = "IfNotPresent"
    seconds: int = Field(default=60, ge=10, le=900)
    collect_mebibytes: int = Field(default=32, ge=1, le=1024)

    @model_validator(mode="after")
    def _has_image(self) -> Self:
        if self.enabled and self.image is None:
            raise ValueError("enabled needs image: name one that has python3")
        return self


class CheckpointSection(Section):
    """Checkpoints of a suspect's memory by its node's kubelet, for ``ringfence node INC checkpoint``. Off by default.

    Most nodes have none: it needs CRIU on the node, and containerd 2.0 or CRI-O. It goes through ``nodes/proxy``, a
    right with which commands can be run in every pod: rendered by itself (``ringfence rbac --checkpoint``), for the
    length of an incident. An archive stays on the node, readable for root alone, and holds every secret that was in
    memory. ``seconds``: how long one container's may take.
    """

    enabled: bool = False
    seconds: int = Field(default=120, ge=5, le=900)


class AuditSection(Section):
    """``log``: the API server's audit log (JSON lines), where this machine can read it; none: it cannot."""

    log: Path | None = None


class ObservabilitySection(Section):
    """Where ``doctor`` asks whether monitoring answers. None: not looked for."""

    prometheus_url: str | None = Field(default=None, pattern=_HTTP)
    alertmanager_url: str | None = Field(default=None, pattern=_HTTP)
    grafana_url: str | None = Field(default=None, pattern=_HTTP)


class Contact(Section):
    """Whom to call; printed in reports."""

    role: str
    name: str
    reach: str


class Receiver(Section):
    """Where pages go: an Apprise URL, which is a secret, given here, in a file of its own (``url_file``, read at each
    use), or in the environment (``RINGFENCE_NOTIFY__TO`` as JSON).

    ``name`` stands for it on screens, which never show the URL. ``for``: roles of ``contacts`` whose receiver it is,
    and kinds of pages; roles alone: every kind; kinds alone: whoever is on call. ``min_severity``: of the incident.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")
    url: SecretStr | None = None
    url_file: Path | None = None
    wanted: tuple[str, ...] = Field(alias="for", min_length=1)
    min_severity: Severity = Severity.MEDIUM

    @model_validator(mode="after")
    def _one_url(self) -> Self:
        if (self.url is None) == (self.url_file is None):
            raise ValueError(f"{self.name} needs url or url_file, and not both")
        return self


class NotifySection(Section):
    """Who is paged, through Apprise. The first contact that has a receiver gets a page; a lease that ran out and an
    approval that waits go on to the next contact every ``escalate_minutes`` while nobody has seen to them.
    """

    to: tuple[Receiver, ...] = ()
    escalate_minutes: int = Field(default=15, ge=1, le=1440)

    @field_validator("to")
    @classmethod
    def _names(cls, value: tuple[Receiver, ...]) -> tuple[Receiver, ...]:
        names = [one.name for one in value]
        if doubled := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
            raise ValueError(f"{', '.join(doubled)} is there twice")
        return value


class WatchSection(Section):
    """``ringfence watch``: every ``retest_seconds`` it looks again at each open incident, whatever happens meanwhile.

    ``put_back``: a quarantine policy that somebody deleted, and a fence label that somebody took off, are put back by
    the same action, ``put_back_hourly`` times an hour for each incident at most; else they are only told.
    ``poll_seconds``: how often is looked where the API server refuses a watch. ``guard``: an admission policy for each
    open incident refuses to delete, evict or relabel its fenced pods, and says whom to call; that needs rights of its
    own, which ``ringfence rbac`` then renders. ``engine_retention_days``: for how long after a run has ended the
    engine's own record of it is kept; nothing needs it then, and the store keeps everything.
    """

    guard: bool = False
    engine_retention_days: int = Field(default=30, ge=1, le=36500)
    retest_seconds: float = Field(default=30.0, ge=1, le=3600)
    put_back: bool = True
    put_back_hourly: int = Field(default=3, ge=0, le=60)
    poll_seconds: float = Field(default=5.0, ge=1, le=300)
