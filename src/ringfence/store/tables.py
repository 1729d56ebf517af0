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
