"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ringfence.cli.output import Format

if TYPE_CHECKING:
    from ringfence.config import Config

ConfigFile = Annotated[Path | None, typer.Option("--config", help="Configuration file (YAML).", show_default=False)]
Kubeconfig = Annotated[Path | None, typer.Option("--kubeconfig", help="As kubectl's.", show_default=False)]
KubeContext = Annotated[str | None, typer.Option("--context", help="As kubectl's.", show_default=False)]
Output = Annotated[Format, typer.Option("--output", "-o", help="text, wide, json or yaml.")]
IncidentId = Annotated[str, typer.Argument(metavar="INC", help="The incident, for example INC-7.")]


def configuration(config: Path | None, kubeconfig: Path | None = None, context: str | None = None) -> Config:
    """The configuration with the command line's say on the cluster. Raises ConfigError."""
    from ringfence.config import load  # slow to import, and --help needs none of it

    loaded = load(config)
    changes: dict[str, object] = {}
    if kubeconfig is not None:
        changes["kubeconfig"] = kubeconfig
    if context is not None:
        changes["context"] = context
    if not changes:
        return loaded
    return loaded.model_copy(update={"cluster": loaded.cluster.model_copy(update=changes)})
