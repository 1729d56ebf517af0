"""Alembic's entry: migrations run on the connection and in the transaction that ``database._migrate`` opened."""

from alembic import context

from ringfence.store import tables

context.configure(
    connection=context.config.attributes["connection"], target_metadata=tables.metadata, render_as_batch=True
)
context.run_migrations()
