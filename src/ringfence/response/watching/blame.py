"""Who changed an object, as far as it can be known: from the audit log, else from the object's managedFields."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import NamedTuple

from ringfence.model.base import Json
from ringfence.model.objects import ObjectRef
from ringfence.platform.kubernetes.audit import last_deed
from ringfence.platform.kubernetes.client import FIELD_MANAGER
from ringfence.platform.kubernetes.selectors import printable
from ringfence.response.context import Context, now

_LOOK_BACK = timedelta(minutes=2)
_LONGEST = 200


class Blame(NamedTuple):
    """Empty where nobody can be named."""

    who: str = ""
    how_known: str = ""
    audit_id: str = ""
    by_autoscaler: bool = False


def blame(context: Context, ref: ObjectRef, live: Json | None, *, deletion: bool) -> Blame:
    """A user of the audit log, where one is configured; its line may come a moment after the change itself. Without
    it a program of managedFields, which whoever wrote the object has named as he liked. Nobody for what is gone."""
    scaler = _autoscaler(live)
    if context.policy.audit_log is not None:
        for pause in (0.0, 0.4, 0.8):
            time.sleep(pause)
            deed = last_deed(
                context.policy.audit_log,
                ref,
                not_by=context.principal.subject,
                since=now() - _LOOK_BACK,
                deletion=deletion,
            )
            if deed is not None:
                what = f"{deed.verb} {deed.subresource}".strip()
                return Blame(
                    printable(deed.user)[:_LONGEST],
                    f"audit log: {printable(what)} at {printable(deed.at)}",
                    printable(deed.audit_id),
                    scaler,
                )
    if deletion:
        return Blame()
    newest = _newest(live)
    if newest is None:
        return Blame()
    words = f"managedFields: {newest.get('operation', '')} at {newest.get('time', '')}; it names a program"
    return Blame(printable(str(newest["manager"]))[:_LONGEST], words, by_autoscaler=scaler)


def _newest(live: Json | None) -> Json | None:
    entries = [
        entry
        for entry in ((live or {}).get("metadata") or {}).get("managedFields") or ()
        if entry.get("manager") not in ("", None, FIELD_MANAGER) and entry.get("subresource") != "status"
    ]
    return max(entries, key=lambda entry: str(entry.get("time", "")), default=None)


def _autoscaler(live: Json | None) -> bool:
    newest = _newest(live)
    return (
        newest is not None
        and newest.get("subresource") == "scale"
        and str(newest["manager"]) == "kube-controller-manager"
    )
