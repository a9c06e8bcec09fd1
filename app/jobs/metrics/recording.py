"""What is recorded for graphs when an attempt ends: its outcome, its cost, its bytes. The rows are the truth."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal

from app.core import clock
from app.core.telemetry import metrics
from app.jobs.states import AttemptStatus
from app.jobs.transitions.completion import StoredFile


def attempt_ended(model: str, status: AttemptStatus, *, code: str = "", cost: Decimal | None = None) -> None:
    """An attempt has ended.

    Args:
        model: `provider/name`.
        status: How.
        code: Of the error, if there was one.
        cost: In US dollars, if the provider has reported it.
    """
    provider = model.partition("/")[0]
    metrics.ATTEMPTS.add(provider, status.value, code)
    if cost:
        metrics.COST.add(provider, model, number=float(cost))


def files_stored(model: str, files: Sequence[StoredFile]) -> None:
    """Outputs are in the store, and committed."""
    metrics.STORED_BYTES.add(model.partition("/")[0], number=sum(file.bytes for file in files))


def media_completed(model: str, created_at: datetime) -> None:
    """A media item is COMPLETED; by this machine's clock and the database's, which may differ a little."""
    took = (clock.now() - created_at).total_seconds()
    metrics.MEDIA_SECONDS.observe(took, model.partition("/")[0], model)
