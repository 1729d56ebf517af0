"""Asking Argo CD to compare an Application with Git now. Nothing is synced by it.

Part of ``recovery.source``, not a step of its own: the annotation asks for one comparison, and Argo CD takes it off
again, so there is nothing to undo. What it cannot know: whether Git answers Argo CD what it would answer anybody else.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from ringfence.actions.base import Action
from ringfence.model.base import Json
from ringfence.model.journal import ChangeRecord
from ringfence.model.objects import ObjectRef
from ringfence.model.outcome import Already, Refused
from ringfence.model.permission import Permission
from ringfence.model.plan import Change, Impact, Plan, Verb
from ringfence.model.proof import Level, Proof
from ringfence.platform.argocd.revisions import REFRESH
from ringfence.platform.kubernetes.resources import APPLICATION
from ringfence.platform.kubernetes.workloads import read_object

_ANNOTATION = f"/metadata/annotations/{REFRESH.replace('/', '~1')}"


class Refresh(Action[Json]):
    """One comparison of one Application."""

    name = "argocd.refresh"
    kinds = frozenset({APPLICATION.kind})
    destructive = False
    permissions = (
        Permission(
            "applications.argoproj.io",
            frozenset({"list", "get", "patch"}),
            "recover: to have Argo CD compare with Git, and to see which commit it would deliver",
            everywhere=True,
        ),
    )

    def look(self, cluster_id: str, target: ObjectRef, pool: ThreadPoolExecutor) -> Json:  # noqa: ARG002
        return read_object(self.cluster, target)[0]

    def plan(self, target: ObjectRef, around: Json) -> Plan | Already | Refused:
        annotations = around["metadata"].get("annotations")
        if REFRESH in (annotations or {}):
            return Already(reason="a comparison is asked for")
        operation: Json = {"op": "add", "path": _ANNOTATION, "value": "normal"}
        if annotations is None:
            operation = {"op": "add", "path": "/metadata/annotations", "value": {REFRESH: "normal"}}
        change = Change(
            id="refresh",
            ref=target,
            verb=Verb.PATCH,
            body=[{"op": "test", "path": "/metadata/uid", "value": target.uid}, operation],
            prior=around,
            effect=f"{target} is compared with Git",
        )
        return Plan(
            action=self.name,
            target=target,
            changes=(change,),
            impact=Impact(pods=0, replacement="nobody: nothing is synced", replacement_expected=False),
            rationale="which commit it would deliver is only known after a comparison",
        )

    def verify(self, target: ObjectRef, records: Sequence[ChangeRecord]) -> Proof:  # noqa: ARG002
        return Proof(
            claim="a comparison was asked for",
            level=Level.REQUESTED,
            by="the API server",
            at=datetime.now(UTC),
            why_not_higher="Argo CD has not ended it yet",
        )
