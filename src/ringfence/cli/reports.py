"""``report``: writing the files."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path

from ringfence import app as wiring
from ringfence.config import Config
from ringfence.errors import VaultError
from ringfence.model.timeline import ReportWritten
from ringfence.reporting.build import build
from ringfence.reporting.export import timeline_json
from ringfence.reporting.html import render as render_html
from ringfence.reporting.markdown import render as render_markdown
from ringfence.store import incidents, timeline


def write(config: Config, incident_id: str, folder: str) -> list[Path]:
    """Write report.md, report.html and timeline.json. Raises TargetError, StoreError, VaultError."""
    store = wiring.store(config)
    now = datetime.now(UTC)
    with store.read() as session:
        incident = incidents.get(session, incident_id)
        report = build(session, incident.id, generated_at=now, contacts=config.contacts)
        texts = {
            "report.md": render_markdown(report),
            "report.html": render_html(report),
            "timeline.json": json.dumps(timeline_json(session, incident.id), indent=1) + "\n",
        }
    written = []
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            path = Path(folder) / name
            path.write_text(text, encoding="utf-8")
            written.append(path)
    except OSError as error:
        raise VaultError(
            f"the report cannot be written to {folder}",
            why=error.strerror or str(error),
            next_step="choose another --out",
        ) from error
    event = ReportWritten(
        occurred_at=now,
        actor=wiring.local_principal().id,
        files=tuple(path.name for path in written),
        sha256=tuple(hashlib.sha256(text.encode()).hexdigest() for text in texts.values()),
    )
    with store.write() as session:
        timeline.append(session, incident.id, event, now)
    return written
