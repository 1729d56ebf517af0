"""Who acts, for commands that work without a cluster but should not be anonymous where there is one."""

from __future__ import annotations

from datetime import UTC, datetime

from ringfence import app as wiring
from ringfence.cli.output import note
from ringfence.config import Config
from ringfence.errors import ConfigError, PlatformError
from ringfence.model.principal import Principal
from ringfence.platform.kubernetes.identity import cluster_uid, whoami
from ringfence.store import incidents
from ringfence.store.database import Store

_SECONDS = 4.0
"""How long at most the cluster is asked."""


def principal(config: Config, store: Store) -> Principal:
    """Whom the cluster of the configuration vouches for (SelfSubjectReview); else the operating-system user, whom
    nobody does, and that is said. Raises StoreError."""
    brief = config.cluster.model_copy(update={"timeout_seconds": min(config.cluster.timeout_seconds, _SECONDS)})
    try:
        cluster = wiring.reach(config.model_copy(update={"cluster": brief}))
        try:
            found = whoami(cluster, cluster_uid(cluster))
        finally:
            cluster.close()
    except (PlatformError, ConfigError) as error:
        found = wiring.local_principal()
        note(f"recorded as {found.id}, whom no cluster vouches for: {error}")
    with store.write() as session:
        incidents.remember(session, found, datetime.now(UTC))
    return found
