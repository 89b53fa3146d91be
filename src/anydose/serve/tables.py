"""The two tables of the queue, and how its database is opened."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sql
from sqlalchemy import Column, Connection, Engine, Float, Integer, Table, Text

META = sql.MetaData()
JOBS = Table(
    "jobs",
    META,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("id", Text, unique=True, nullable=False),
    Column("key", Text, unique=True),
    Column("state", Text, nullable=False),
    Column("stage", Text, nullable=False, server_default=""),
    Column("progress", Float, nullable=False, server_default="0"),
    Column("place", Text, nullable=False),
    Column("request", sql.JSON, nullable=False),
    Column("hold", Integer, nullable=False),
    Column("send_to", sql.JSON, nullable=False),
    Column("result", sql.JSON, nullable=False),
    Column("error", Text, nullable=False, server_default=""),
    Column("created", sql.Double, nullable=False),
    Column("started", sql.Double),
    Column("finished", sql.Double),
    Column("due", sql.Double, nullable=False, server_default="0"),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("owner", Text, nullable=False, server_default=""),
    Column("heard", sql.Double, nullable=False, server_default="0"),
    Column("released_by", Text, nullable=False, server_default=""),
    sql.Index("by_state", "state", "number"),
)
SENT = Table(
    "sent",
    META,
    Column("id", Text, primary_key=True),
    Column("to", Text, primary_key=True),
    Column("uid", Text, primary_key=True),
    Column("at", sql.Double, nullable=False),
)


def opened(url: str) -> Engine:
    """The database behind a URL, with both tables in it. Raises ValueError for a URL that is none, OSError
    where the database cannot be opened."""
    try:
        engine = sql.create_engine(url, pool_pre_ping=not url.startswith("sqlite"))
    except (sql.exc.ArgumentError, ImportError) as error:
        raise ValueError("queue: sqlite:////PATH or postgresql+psycopg://... is accepted") from error
    if engine.dialect.name == "sqlite":
        sql.event.listen(engine, "connect", _as_sqlite)
        sql.event.listen(engine, "begin", _begin_sqlite)
    try:
        with engine.execution_options(writes=True).begin() as db:
            META.create_all(db)
    except sql.exc.OperationalError as error:
        raise OSError(f"the queue cannot be opened: {error.orig}") from error
    return engine


def _as_sqlite(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # transactions begin below, not where Python thinks
    for pragma in ("busy_timeout = 30000", "journal_mode = WAL", "synchronous = FULL"):
        connection.execute(f"PRAGMA {pragma}")  # FULL: a job that was accepted survives a power cut


def _begin_sqlite(db: Connection) -> None:
    db.exec_driver_sql("BEGIN IMMEDIATE" if db.get_execution_options().get("writes") else "BEGIN")
