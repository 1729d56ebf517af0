"""The catalogue: every kind of step that a playbook can be made of, with its parameters. There is no other.

A step's kind says what it runs on and whether something dies of it, never how it is done: that is ``actions``' and
``response``'s. A playbook reaches the world through these kinds alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, StringConstraints

from ringfence.model.base import Noun
from ringfence.model.incident import State


class Scope(StrEnum):
    """What one step runs on: each of the objects that the targets stand for, or the incident as a whole, once."""

    EACH_POD = "each-pod"
    EACH_WORKLOAD = "each-workload"
    EACH_NODE = "each-node"
    EACH_OBJECT = "each-object"
    """Each pod and each workload that is named."""
    INCIDENT = "incident"


class Params(Noun):
    """Base of the parameters. Strict: a number in quotes is no number."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class NoParams(Params):
    """A kind of step that takes no parameters."""


class QuarantineParams(Params):
    """``shape``: out of its controller (``detach``), in place (``fence``), or what fits (``auto``)."""

    shape: Literal["auto", "detach", "fence"] = "auto"


class SuspendSyncParams(Params):
    """``shape``: that of the cut which follows, as it says which policies are changed."""

    shape: Literal["auto", "detach", "fence"] = "auto"


class FreezeParams(Params):
    """``despite_liveness``: also a pod whose liveness probe will have it killed then, memory and all."""

    despite_liveness: bool = False


class ApproveParams(Params):
    """``reason`` is the question that the approver reads. Nobody in ``expires_minutes`` is a no."""

    reason: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500)]
    expires_minutes: int = Field(default=60, ge=1, le=1440)


class HoleParams(Params):
    """``closed_by``: what closes the hole. ``other-image``: no template asks for an image of the suspects any more.
    ``blocked-image``: admission refuses a pod of their image, tried by a server-side dry run. ``tightened-policy``: it
    refuses a new pod like each of the suspects as found, by a policy that it names, and admits what is to come.

    A playbook that knows of another hole adds a step of its own.
    """

    closed_by: Literal["other-image", "blocked-image", "tightened-policy"] = "other-image"


class RestoreParams(Params):
    """``replicas``: one pod as a canary, or what was saved when the workload was stopped."""

    replicas: Literal["one", "saved"] = "saved"


class CheckParams(Params):
    """``delivered``: also that Argo CD has delivered the approved revision; when it has not, it is frozen again."""

    delivered: bool = False


class WatchParams(Params):
    """``minutes``: how long the restored workloads are watched."""

    minutes: int = Field(default=15, ge=1, le=1440)


class MoveParams(Params):
    """``state`` is where the incident stands from here on."""

    # By value and not by name: State also reads the two words of version 0.1.0, which no new playbook may say.
    state: Literal["declared", "containing", "eradicating", "recovering", "post-incident", "closed"]

    @property
    def to(self) -> State:
        return State(self.state)


@dataclass(frozen=True)
class StepType:
    """One kind of step.

    ``destructive``: something dies, or can die, that cannot come back as it was, so the evidence gate stands before it.
    ``waits``: the run ends here and goes on when a person has decided.
    """

    name: str
    title: str
    scope: Scope
    destructive: bool = False
    waits: bool = False
    params: type[Noun] = NoParams


CATALOGUE: dict[str, StepType] = {
    kind.name: kind
    for kind in (
        StepType("network.quarantine", "cut a pod off the network", Scope.EACH_POD, params=QuarantineParams),
        StepType("evidence.seal", "collect and seal a pod's evidence", Scope.EACH_POD),
        StepType("access.retest", "look again at every way in and out", Scope.INCIDENT),
        StepType("network.canary", "try a pod's fence with a throw-away pod", Scope.EACH_POD),
        StepType("human.approve", "wait for a person's yes or no", Scope.INCIDENT, waits=True, params=ApproveParams),
        StepType("pod.delete", "delete a pod", Scope.EACH_POD, destructive=True),
        StepType("pod.release", "end a false positive, pod by pod", Scope.EACH_POD, destructive=True),
        StepType("fence.lift", "take down the fences that nothing stands behind any more", Scope.INCIDENT),
        StepType("workload.scale_to_zero", "stop every pod of a workload", Scope.EACH_WORKLOAD, destructive=True),
        StepType("workload.restart_clean", "replace every pod of a workload", Scope.EACH_WORKLOAD, destructive=True),
        StepType("node.cordon", "let no new pod onto a node", Scope.EACH_NODE),
        StepType("node.cut", "cut a pod off on its node, open connections too", Scope.EACH_POD),
        StepType("node.uncut", "take a pod's cut on its node back", Scope.EACH_POD),
        StepType("node.freeze", "stop a pod's processes on its node", Scope.EACH_POD, params=FreezeParams),
        StepType("node.thaw", "let a pod's processes go on", Scope.EACH_POD),
        StepType("identity.cut", "refuse what a pod's Kubernetes tokens write", Scope.EACH_POD),
        StepType("identity.unbind", "take the rights of a pod's service account", Scope.EACH_POD),
        StepType(
            "identity.recreate_account", "make all tokens of an account worthless", Scope.EACH_POD, destructive=True
        ),
        StepType("identity.delete_tokens", "delete an account's tokens in Secrets", Scope.EACH_POD, destructive=True),
        StepType(
            "argocd.suspend_sync",
            "keep Argo CD from putting back what is changed",
            Scope.EACH_OBJECT,
            params=SuspendSyncParams,
        ),
        StepType("argocd.resume_sync", "let Argo CD sync as before", Scope.INCIDENT),
        StepType("keda.pause", "keep KEDA from scaling a workload", Scope.EACH_WORKLOAD),
        StepType("keda.resume", "let KEDA scale as before", Scope.INCIDENT),
        StepType("recovery.clean", "see that nothing suspect is left running", Scope.INCIDENT),
        StepType("recovery.hole", "see that the hole is closed or accepted", Scope.INCIDENT, params=HoleParams),
        StepType("recovery.source", "see that what Argo CD would deliver is approved", Scope.INCIDENT),
        StepType(
            "workload.restore", "give a stopped workload its pods back", Scope.EACH_WORKLOAD, params=RestoreParams
        ),
        StepType("recovery.check", "try what was restored", Scope.INCIDENT, params=CheckParams),
        StepType("recovery.rebind", "give accounts their rights back", Scope.INCIDENT),
        StepType("recovery.watch", "watch what was restored", Scope.INCIDENT, params=WatchParams),
        StepType("incident.move", "say where the incident stands", Scope.INCIDENT, params=MoveParams),
    )
}


class UnknownAction(ValueError):
    """A name that is not in the catalogue."""


def parse_params(action: str, given: Mapping[str, Any]) -> Noun:
    """The parameters of a step of kind ``action``, checked.

    Raises UnknownAction for a name that is not in the catalogue, and pydantic's ValidationError, which is a ValueError
    too and whose ``errors()`` name every key.
    """
    kind = CATALOGUE.get(action)
    if kind is None:
        raise UnknownAction(f"there is no action {action!r}; there are {', '.join(CATALOGUE)}")
    return kind.params.model_validate(dict(given))
