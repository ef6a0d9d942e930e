"""Which installation a database serves, and the fence that every write of its operator passes.

Protocol. Several operators may believe that they lead: a Lease of Kubernetes is a matter of clocks, and a process that
was stopped for a minute knows nothing of that minute. So whoever wins the Lease takes the lead here, too, under an epoch
that is higher than any before it, both in this database and in the Lease (which outlives a database that was wiped).
Every write names epoch **and** holder, and `check_lead` compares both with the row, locked FOR SHARE until the write
commits: a new leader waits for writes under way, and later ones of the old leader raise `LeadLost`. Without a row nobody
leads. The holder must match because an epoch may come again after a database was wiped.

What is written is the story of synced.py; who should lead is decided in the operator.
"""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from fibflow.errors import LeadLost, OtherInstallation
from fibflow.store.database import Session, read, write
from fibflow.store.tables import installation as row_of
from fibflow.store.tasktypes import insert_or_nothing


@dataclass(frozen=True, slots=True)
class Lead:
    """What a leader's writes name: who it is, and the epoch under which it took the lead."""

    epoch: int
    holder: str


@read
def check_installation(session: Session, installation: str) -> None:
    """Raise OtherInstallation for a database that serves another one, whichever schema of ours it has."""
    _refuse_other(session.connection.execute(sa.select(row_of.c.installation)).first(), installation)


@write
def take_lead(session: Session, installation: str, holder: str, transitions: int) -> Lead:
    """Lead from now on, under an epoch above the database's and the Lease's. Raises OtherInstallation."""
    first = {"installation": installation, "epoch": transitions + 1, "holder": holder, "taken_at": session.now()}
    added = insert_or_nothing(session, row_of).values(first).returning(row_of.c.epoch)
    if session.connection.execute(added).first() is not None:
        return Lead(transitions + 1, holder)
    stored = session.connection.execute(sa.select(row_of).with_for_update()).one()
    _refuse_other(stored, installation)
    lead = Lead(max(stored.epoch, transitions) + 1, holder)
    session.connection.execute(sa.update(row_of).values(epoch=lead.epoch, holder=holder, taken_at=session.now()))
    return lead


def _refuse_other(stored: sa.Row[tuple[object, ...]] | None, installation: str) -> None:
    if stored is not None and stored.installation != installation:
        raise OtherInstallation(installation, stored.installation)


def check_lead(session: Session, lead: Lead) -> None:
    """Raise LeadLost unless this leader leads, and keep it so until the transaction ends."""
    leads = sa.and_(row_of.c.epoch == lead.epoch, row_of.c.holder == lead.holder)
    if session.connection.execute(sa.select(row_of.c.one).where(leads).with_for_update(read=True)).first() is None:
        raise LeadLost(lead.holder, lead.epoch)


@write
def count_refused(session: Session) -> None:
    """Count a write that was refused, for those who look at the database afterwards."""
    session.connection.execute(sa.update(row_of).values(refused=row_of.c.refused + 1))


@dataclass(frozen=True, slots=True)
class Footing:
    """What a leader's writes stand on: who leads, which transaction wrote that down, and since when the server runs. Where any
    is another, what was committed may be gone: the database was wiped, restored from a backup, or is a standby that had not
    heard of everything. A lead alone does not tell: it is in the backup, too, or is taken anew under the epoch that it had."""

    lead: Lead | None
    written_by: object
    server_since: object


@read
def footing(session: Session, installation: str) -> Footing:
    """The footing there is now. Raises OtherInstallation."""
    row = session.connection.execute(sa.select(row_of)).first()
    _refuse_other(row, installation)
    lead = None if row is None else Lead(row.epoch, row.holder)
    return Footing(lead, *(session.connection.execute(_ORIGIN).one() if session.postgresql else (None, None)))


_ORIGIN = sa.select(
    sa.select(sa.cast(sa.literal_column("xmin"), sa.Text)).select_from(row_of).scalar_subquery(),
    sa.func.pg_postmaster_start_time(),
)


@dataclass(frozen=True, slots=True)
class Installation:
    """Whom the database serves, who leads, and how many writes of others were refused."""

    installation: str
    lead: Lead
    refused: int


@read
def installed(session: Session) -> Installation | None:
    """The installation; None before the first operator led."""
    row = session.connection.execute(sa.select(row_of)).first()
    return None if row is None else Installation(row.installation, Lead(row.epoch, row.holder), row.refused)
