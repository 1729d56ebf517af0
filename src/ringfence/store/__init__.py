"""Our truth: tables, the append-only timeline, the journal of changes. SQLite by default, Postgres by URL.

Every function takes a ``session`` first and never opens a transaction; the caller owns it (``Store.write``,
``Store.read``).
"""
