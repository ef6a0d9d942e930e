"""The tables of programs: workers with their leases, the installation that leads, the schema's version."""

from __future__ import annotations

import sqlalchemy as sa

from fibflow.store.tables.columns import Id, Instant, Name, identity, metadata, one_of, partial_index

worker = sa.Table(
    "worker",
    metadata,
    identity(),
    sa.Column("namespace", Name, nullable=False),
    sa.Column("pod_id", Name),
    sa.Column("pod_uid", Name),
    sa.Column("pool", Name),
    sa.Column("host", Name, nullable=False),
    sa.Column("pid", sa.Integer, nullable=False),
    sa.Column("slots", sa.Integer, nullable=False),
    sa.Column("status", Name, nullable=False),
    sa.Column("paused", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("draining", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("handlers", sa.Text, nullable=False, server_default="[]"),
    sa.Column("process_started_at", Instant),
    sa.Column("heartbeat", Instant),
    sa.Column("lease", Instant, nullable=False),
    sa.Column("registered_at", Instant, nullable=False),
    sa.Column("renewed_at", Instant, nullable=False),
    sa.Column("expires_at", Instant, nullable=False),
    sa.Column("ended_at", Instant),
    sa.Column("ended_by", Id),
    sa.CheckConstraint(one_of("status", "active", "stopped", "reaped", "superseded"), name="status"),
    sa.CheckConstraint("(status = 'active') = (ended_at IS NULL)", name="active_has_not_ended"),
    sa.CheckConstraint("ended_by IS NULL OR status IN ('reaped', 'superseded')", name="ended_by_another"),
    sa.CheckConstraint("lease > 0 AND slots > 0", name="lease"),
    sqlite_autoincrement=True,
    postgresql_with={"fillfactor": 50},
)
sa.Index(
    "worker_identity",
    worker.c.namespace,
    worker.c.pod_id,
    unique=True,
    postgresql_where=sa.text("status = 'active' AND pod_id IS NOT NULL"),
    sqlite_where=sa.text("status = 'active' AND pod_id IS NOT NULL"),
)
partial_index("worker_lease", worker.c.expires_at, where="status = 'active'")
partial_index("worker_pod", worker.c.pod_uid, where="status = 'active' AND pod_uid IS NOT NULL")

fenced_pod = sa.Table(
    "fenced_pod",
    metadata,
    sa.Column("pod_uid", Name, primary_key=True),
    sa.Column("fenced_at", Instant, nullable=False),
)
"""Pods that are gone for ever: no worker of theirs registers again. The protocol: fencing.py."""

installation = sa.Table(
    "installation",
    metadata,
    sa.Column("one", sa.Boolean, primary_key=True, autoincrement=False, server_default=sa.true()),
    sa.Column("installation", Name, nullable=False),
    sa.Column("epoch", sa.BigInteger, nullable=False),
    sa.Column("holder", Name, nullable=False),
    sa.Column("taken_at", Instant, nullable=False),
    sa.Column("refused", sa.BigInteger, nullable=False, server_default="0"),
    sa.CheckConstraint("one", name="one"),
    sa.CheckConstraint("epoch > 0 AND refused >= 0", name="counts_rise"),
)
"""One row at most: which installation the database serves, and who leads it. The protocol: installation.py."""

schema_version = sa.Table(
    "schema_version",
    metadata,
    sa.Column("version", Name, primary_key=True),
    sa.Column("oldest_code", Name, nullable=False),
)
"""One row: the migration that the schema stands at, and the oldest code that works with it."""
