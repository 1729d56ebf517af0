"""CustomResourceDefinitions of a profile, from the files of its module."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from lab.kube import APPLY_PATCH, FIELD_MANAGER, Kube, wait_until

READY_SECONDS = 90.0


def apply(kube: Kube, found: Mapping[str, Path], groups: Collection[str]) -> None:
    """Applies each by its name, server-side and as the file is: some are over a megabyte, too much for kubectl's
    annotation and slow to parse here. Returns when the API server serves them.

    Raises:
        LabError: it refuses one, or does not serve them in time.
    """
    for name, file in found.items():
        kube.request(
            "PATCH",
            f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}",
            file.read_bytes(),
            query={"fieldManager": FIELD_MANAGER, "force": "true"},
            content_type=APPLY_PATCH,
        )
    wait_until(
        lambda: set(found) <= set(names(kube, groups, established=True)),
        READY_SECONDS,
        f"the CRDs of {', '.join(groups)}",
    )


def delete(kube: Kube, groups: Collection[str]) -> None:
    """Asks for each to go, with all that is of its kind; ``wait_gone`` waits for that."""
    for name in names(kube, groups):
        kube.delete("apiextensions.k8s.io/v1", "CustomResourceDefinition", name)


def wait_gone(kube: Kube, groups: Collection[str]) -> None:
    """Raises LabError when one stays."""
    wait_until(lambda: not names(kube, groups), READY_SECONDS, f"the CRDs of {', '.join(groups)} to be gone")


def names(kube: Kube, groups: Collection[str], *, established: bool = False) -> list[str]:
    """Those of these API groups; ``established``: which the API server serves."""
    return [
        item["metadata"]["name"]
        for item in kube.list("apiextensions.k8s.io/v1", "CustomResourceDefinition")
        if item["spec"]["group"] in groups
        and (
            not established
            or any(
                condition["type"] == "Established" and condition["status"] == "True"
                for condition in item.get("status", {}).get("conditions") or ()
            )
        )
    ]
