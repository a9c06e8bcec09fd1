"""A media item is requested: the row is the job, written together with its history, deliveries and idempotency key."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from types import UnionType
from typing import Annotated, Any, Final, TypeAlias, Union, get_args, get_origin, get_type_hints
from uuid import UUID

from app.core.database.pool import Change, DatabasePool
from app.core.database.rows import Row
from app.idempotency.keys import Key
from app.jobs.sql import record_event
from app.jobs.states import DEFAULT_PRIORITY, TRANSITIONS, MediaEvent, OnUnknown

# ruff: noqa: S608 - the statements are put together from constants; values are always arguments

Json: TypeAlias = Annotated[str, "jsonb"]
"""JSON text in a jsonb column."""
Texts: TypeAlias = Annotated[tuple[str, ...], "text[]"]


class ClientColumns(Row, frozen=True, kw_only=True):
    """Columns of `media` that a client sets and gets back as they are: `MediaIn` and `MediaOut` have fields alike.

    From here they are written, read and rendered: a new one is a line here, a column in `models.py`, a migration, and
    a field in `MediaIn` and `MediaOut`.
    """

    prompt: str
    priority: int = DEFAULT_PRIORITY
    """0 to 9; 9 is claimed first."""
    on_unknown: str = OnUnknown.HOLD
    """An OnUnknown."""
    tags: Texts = ()


class RequestColumns(ClientColumns, frozen=True, kw_only=True):
    """Columns that are set by the request and never change, or only along a route (`model`, `input`, `queue`)."""

    id: UUID
    job_id: UUID
    owner_id: UUID
    model: str
    input: Json
    metadata: Json
    queue: str
    route: str | None = None
    """The route that was requested; None: the model was requested by its own name."""


class NewMedia(RequestColumns, frozen=True, kw_only=True):
    """A checked request, ready to be written."""

    route_step: Annotated[int, "smallint"] = 0
    """Which target of the route; 0 is the first."""
    route_input: Json | None = None
    """As it was requested of the route."""
    time_limit: timedelta | None = None
    """How long it may take; None: without limit."""
    webhook: Json | None = None
    """Its own receiver; see `webhooks/receivers.py`."""
    trace: str | None = None
    """The W3C traceparent of the request."""


@dataclass(frozen=True, slots=True)
class Once:
    """The request is made once under this idempotency key, as long as the key lives."""

    key: Key
    lifetime: timedelta
    """How long the key outlives the request if its media item is deleted."""


class Accepted(Row, frozen=True):
    """What the database has added."""

    posted: bool
    created_at: datetime
    deadline: datetime | None


_SQL_TYPES: Final = {str: "text", int: "int", UUID: "uuid", timedelta: "interval"}


def _sql_type(hint: Any) -> str:
    """The SQL type of a field; of an optional one that of its value."""
    while get_origin(hint) in {Union, UnionType}:
        hint = get_args(hint)[0]
    return str(hint.__metadata__[0]) if get_origin(hint) is Annotated else _SQL_TYPES[hint]


_HINTS: Final = get_type_hints(NewMedia, include_extras=True)
_PARAMETERS: Final = {
    name: f"${number}::{_sql_type(_HINTS[name])}" for number, name in enumerate(NewMedia.__struct_fields__, 1)
}
_COLUMNS: Final = {
    **_PARAMETERS,
    "status": f"'{TRANSITIONS[MediaEvent.REQUESTED].target}'",
    "provider": f"split_part({_PARAMETERS['model']}, '/', 1)",
    "rank": _PARAMETERS["priority"],
    "deadline": f"now() + {_PARAMETERS['time_limit']}",
}
_INSERT: Final = f"INSERT INTO media ({', '.join(_COLUMNS)}) SELECT {', '.join(_COLUMNS.values())}"
_RETURNING: Final = "RETURNING id, owner_id, webhook, created_at, deadline"
_ACCEPTED: Final = "SELECT EXISTS (SELECT FROM posted) AS posted, created_at, deadline FROM moved"

_REQUEST: Final = f"""
WITH moved AS (
    {_INSERT} {_RETURNING}
), {record_event(MediaEvent.REQUESTED)}
{_ACCEPTED}"""

# Of two first requests the second waits for the first to commit, and then finds the key taken.
_KEY, _FINGERPRINT, _LIFETIME = (f"${len(_PARAMETERS) + place}" for place in (1, 2, 3))
_REQUEST_ONCE: Final = f"""
WITH first_use AS (
    INSERT INTO idempotency_keys AS k (owner_id, key, fingerprint, media_id)
    VALUES ({_PARAMETERS["owner_id"]}, {_KEY}, {_FINGERPRINT}, {_PARAMETERS["id"]})
    ON CONFLICT (owner_id, key) DO UPDATE
    SET fingerprint = excluded.fingerprint, media_id = excluded.media_id, created_at = now()
    WHERE k.media_id IS NULL AND k.created_at < now() - {_LIFETIME}::interval
    RETURNING media_id
), moved AS (
    {_INSERT} FROM first_use {_RETURNING}
), {record_event(MediaEvent.REQUESTED)}
{_ACCEPTED}"""


async def request(db: DatabasePool, new: NewMedia, once: Once | None = None) -> Accepted | None:
    """Write a request; once this returns it will be generated.

    Args:
        db: The database.
        new: The request.
        once: Its idempotency key; None: it has none.

    Returns:
        None: the idempotency key was used before, and nothing was written.
    """
    values = [getattr(new, name) for name in NewMedia.__struct_fields__]
    if once is None:
        accepted = await db.fetchrow_as(Accepted, _REQUEST, *values)
    else:
        key = (once.key.name, once.key.fingerprint, once.lifetime)
        accepted = await db.fetchrow_as(Accepted, _REQUEST_ONCE, *values, *key)
    if accepted is not None:
        db.on_change((Change(new.id, new.owner_id),), deliveries_due=accepted.posted)
    return accepted
