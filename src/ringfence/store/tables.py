"""The tables. A change here needs a migration in ``migrations/versions``; a test compares both."""

from __future__ import annotations

from datetime import UTC, datetime

import sqlalchemy as sa
from sqlalchemy.engine import Dialect

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}
metadata = sa.MetaData(naming_convention=NAMING)


class Utc(sa.types.TypeDecorator[datetime]):
    """A moment in UTC: naive times are refused on the way in; SQLite's naive ones get their zone back."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        if value is not None and value.tzinfo is None:
            raise ValueError("a naive time must not reach the store")
        return value.astimezone(UTC) if value is not None else None

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


principal = sa.Table(
    "principal",
    metadata,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("issuer", sa.String, nullable=False),
    sa.Column("subject", sa.String, nullable=False),
    sa.Column("kind", sa.String, nullable=False),
    sa.Column("groups", sa.JSON, nullable=False),
    sa.Column("first_seen_at", Utc, nullable=False),
)

incident = sa.Table(
    "incident",
    metadata,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("id", sa.String, nullable=False, unique=True),
    sa.Column("cluster", sa.String, nullable=False),
    sa.Column("target", sa.JSON, nullable=False),
    sa.Column("target_uid", sa.String, nullable=False, index=True),
    sa.Column("type", sa.String, nullable=False),
    sa.Column("severity", sa.String, nullable=False),
    sa.Column("state", sa.String, nullable=False),
    sa.Column("determination", sa.String, nullable=False, server_default="undetermined"),
    sa.Column("title", sa.String, nullable=False),
    sa.Column("declared_at", Utc, nullable=False),
    sa.Column("declared_by", sa.String, sa.ForeignKey("principal.id"), nullable=False),
    sa.Column("fence", sa.String, nullable=False, unique=True),
    sa.Column("seq", sa.Integer, nullable=False),
    sa.Column("head_hash", sa.String, nullable=False),
    sqlite_autoincrement=True,
)

event = sa.Table(
    "event",
    metadata,
    sa.Column("incident", sa.String, sa.ForeignKey("incident.id"), primary_key=True),
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("type", sa.String, nullable=False),
    sa.Column("recorded_at", Utc, nullable=False),
    # The exact bytes that were hashed; NULL once erased by law, the hash stays.
    sa.Column("body", sa.LargeBinary, nullable=True),
    sa.Column("body_sha256", sa.String, nullable=False),
    sa.Column("prev_hash", sa.String, nullable=False),
    sa.Column("hash", sa.String, nullable=False),
)

change = sa.Table(
    "change",
    metadata,
    sa.Column("incident", sa.String, sa.ForeignKey("incident.id"), primary_key=True),
    sa.Column("step", sa.String, primary_key=True),
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("action", sa.String, nullable=False),
    sa.Column("ordinal", sa.Integer, nullable=False),
    sa.Column("body", sa.JSON, nullable=False),
    sa.Column("audit_id", sa.String, nullable=False),
    sa.Column("intended_at", Utc, nullable=False),
    sa.Column("outcome", sa.JSON, nullable=True),
    sa.Column("answered_at", Utc, nullable=True),
    sa.Column("result_uid", sa.String, nullable=False, server_default=""),
    sa.Column("undone", sa.Boolean, nullable=False, server_default=sa.false()),
)

evidence_item = sa.Table(
    "evidence_item",
    metadata,
    sa.Column("incident", sa.String, sa.ForeignKey("incident.id"), primary_key=True),
    sa.Column("capture", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("body", sa.JSON, nullable=False),
)

seal = sa.Table(
    "seal",
    metadata,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("incident", sa.String, sa.ForeignKey("incident.id"), nullable=False, index=True),
    sa.Column("capture", sa.Integer, nullable=False),
    sa.Column("subject_uid", sa.String, nullable=False, index=True),
    sa.Column("body", sa.JSON, nullable=False),
)

custody = sa.Table(
    "custody",
    metadata,
    sa.Column("incident", sa.String, sa.ForeignKey("incident.id"), primary_key=True),
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("body", sa.JSON, nullable=False),
)

access_path = sa.Table(
    "access_path",
    metadata,
    sa.Column("incident", sa.String, sa.ForeignKey("incident.id"), primary_key=True),
    sa.Column("path", sa.String, primary_key=True),
    sa.Column("ordinal", sa.Integer, nullable=False),
    sa.Column("body", sa.JSON, nullable=False),
)

incident_target = sa.Table(
    "incident_target",
    metadata,
    sa.Column("incident", sa.String, sa.ForeignKey("incident.id"), primary_key=True),
    sa.Column("object_uid", sa.String, primary_key=True, index=True),
    sa.Column("ordinal", sa.Integer, nullable=False),
    sa.Column("ref", sa.JSON, nullable=False),
    # The object as it was found, and who controlled it: later its name may lead nowhere.
    sa.Column("found", sa.JSON, nullable=True),
    sa.Column("joined_at", Utc, nullable=False),
)

run = sa.Table(
    "run",
    metadata,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("incident", sa.String, sa.ForeignKey("incident.id"), nullable=False, index=True),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("playbook", sa.String, nullable=False),
    sa.Column("playbook_sha256", sa.String, nullable=False),
    sa.Column("playbook_bytes", sa.LargeBinary, nullable=False),
    sa.Column("targets", sa.JSON, nullable=False),
    sa.Column("order", sa.JSON, nullable=False),
    sa.Column("state", sa.String, nullable=False, index=True),
    sa.Column("segment", sa.Integer, nullable=False),
    sa.Column("owner", sa.String, nullable=False),
    sa.Column("epoch", sa.Integer, nullable=False),
    sa.Column("requested_by", sa.String, sa.ForeignKey("principal.id"), nullable=False),
    sa.Column("cancel_requested_by", sa.String, nullable=False, server_default=""),
    sa.Column("created_at", Utc, nullable=False),
    sa.Column("ended_at", Utc, nullable=True),
    sa.Column("why", sa.String, nullable=False, server_default=""),
    sa.UniqueConstraint("incident", "number"),
)

step_run = sa.Table(
    "step_run",
    metadata,
    sa.Column("run", sa.String, sa.ForeignKey("run.id"), primary_key=True),
    sa.Column("step", sa.String, primary_key=True),
    sa.Column("target_uid", sa.String, primary_key=True),
    sa.Column("action", sa.String, nullable=False),
    sa.Column("outcome", sa.JSON, nullable=False),
    sa.Column("proof", sa.JSON, nullable=True),
    sa.Column("finished_at", Utc, nullable=False),
)

approval = sa.Table(
    "approval",
    metadata,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("incident", sa.String, sa.ForeignKey("incident.id"), nullable=False, index=True),
    sa.Column("run", sa.String, sa.ForeignKey("run.id"), nullable=False, index=True),
    sa.Column("step", sa.String, nullable=False),
    sa.Column("body", sa.JSON, nullable=False),
    sa.Column("ceiling_sha256", sa.String, nullable=False),
    sa.Column("decision", sa.String, nullable=False, index=True),
    sa.Column("expires_at", Utc, nullable=False),
)

command = sa.Table(
    "command",
    metadata,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("kind", sa.String, nullable=False),
    sa.Column("body", sa.JSON, nullable=False),
    sa.Column("sent_by", sa.String, nullable=False),
    sa.Column("created_at", Utc, nullable=False),
    sa.Column("done_at", Utc, nullable=True, index=True),
    sqlite_autoincrement=True,
)

executor = sa.Table(
    "executor",
    metadata,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("host", sa.String, nullable=False),
    sa.Column("pid", sa.Integer, nullable=False),
    sa.Column("started_at", Utc, nullable=False),
    sa.Column("heartbeat_at", Utc, nullable=False),
)

lease = sa.Table(
    "lease",
    metadata,
    sa.Column("incident", sa.String, sa.ForeignKey("incident.id"), primary_key=True),
    sa.Column("until", Utc, nullable=False),
    sa.Column("granted_by", sa.String, nullable=False),
    sa.Column("granted_at", Utc, nullable=False),
    sa.Column("expired", sa.Boolean, nullable=False, server_default=sa.false()),
)

capture = sa.Table(
    "capture",
    metadata,
    sa.Column("incident", sa.String, sa.ForeignKey("incident.id"), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    # What asked for it: the same step of the same run, begun again after a crash, gets the same number.
    sa.Column("key", sa.String, nullable=False),
    sa.UniqueConstraint("incident", "key"),
)

page = sa.Table(
    "page",
    metadata,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("incident", sa.String, sa.ForeignKey("incident.id"), nullable=False, index=True),
    sa.Column("kind", sa.String, nullable=False),
    sa.Column("severity", sa.String, nullable=False),
    sa.Column("key", sa.String, nullable=False, unique=True),
    sa.Column("subject", sa.String, nullable=False, server_default=""),
    sa.Column("title", sa.String, nullable=False),
    sa.Column("body", sa.String, nullable=False),
    sa.Column("level", sa.Integer, nullable=False, server_default="0"),
    sa.Column("created_at", Utc, nullable=False),
    # When it is tried next; moved on before each try, so that two processes do not send it at once.
    sa.Column("due_at", Utc, nullable=False),
    sa.Column("tries", sa.Integer, nullable=False, server_default="0"),
    sa.Column("delivered", sa.JSON, nullable=False),
    sa.Column("closed", sa.String, nullable=False, server_default="", index=True),
    sa.Column("problem", sa.String, nullable=False, server_default=""),
    sqlite_autoincrement=True,
)

watched = sa.Table(
    "watched",
    metadata,
    sa.Column("incident", sa.String, sa.ForeignKey("incident.id"), primary_key=True),
    # The object and, for one that we changed, the change of the journal.
    sa.Column("key", sa.String, primary_key=True),
    sa.Column("state", sa.JSON, nullable=False),
    sa.Column("since", Utc, nullable=False),
)

enforcement = sa.Table(
    "enforcement",
    metadata,
    sa.Column("cluster", sa.String, primary_key=True),
    sa.Column("body", sa.JSON, nullable=False),
)
