"""Which kubeconfig is meant."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from lightkube.config.kubeconfig import DEFAULT_KUBECONFIG, KubeConfig
from lightkube.core.exceptions import ConfigError as LightkubeConfigError


def found(named: str | None) -> KubeConfig:
    """As kubectl looks for it: the account that a pod has is the last resort, not the first.

    Raises lightkube's ConfigError, and whatever a broken file makes it and its libraries raise.
    """
    if named:
        return KubeConfig.from_file(Path(named).expanduser())
    if listed := os.environ.get("KUBECONFIG"):
        files = [file for file in listed.split(os.pathsep) if file]
        if len(files) != 1:
            raise LightkubeConfigError("KUBECONFIG names several files: kubectl config view --flatten --raw makes one")
        return KubeConfig.from_file(Path(files[0]).expanduser())
    if Path(DEFAULT_KUBECONFIG).expanduser().is_file():
        return KubeConfig.from_file(DEFAULT_KUBECONFIG)
    with contextlib.suppress(LightkubeConfigError, LookupError):
        return KubeConfig.from_service_account()
    raise LightkubeConfigError(f"neither KUBECONFIG nor {DEFAULT_KUBECONFIG} nor a pod's service account is there")
