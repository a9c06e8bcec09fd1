"""Every call of a provider's adapter: bounded in time, and nothing but ProviderErrors comes out of it."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final

import msgspec
import structlog

from app.core.database.text import storable
from app.core.telemetry import tracing
from app.core.telemetry.metrics import PROVIDER_CALLS, Timed
from app.media_generator import costs
from app.media_generator.errors import (
    AnswerLostError,
    BusyError,
    CreditError,
    GenerationFailedError,
    NotReachedError,
    OutputError,
    ProviderDefectError,
    ProviderError,
    Sent,
    UnauthorizedError,
    VoidError,
)
from app.media_generator.media_generator_model import (
    CancelAnswer,
    Canceled,
    Failed,
    InputFile,
    MediaGeneratorModel,
    Outcome,
    Output,
    Reference,
    Running,
    Submission,
    Succeeded,
)
from app.media_generator.registry import Offer

log = structlog.get_logger(__name__)

CALL_TIMEOUT: Final = timedelta(seconds=60)
"""For an answer, or for the next chunk of an output."""
UPLOAD_TIMEOUT: Final = timedelta(minutes=10)
"""For an input file."""
MAX_OUTPUTS: Final = 256
"""Of one purchase, whatever the provider tells: each is an object and a row."""
REFUSED_POLL_INTERVAL: Final = timedelta(seconds=10)
"""Between two questions while the provider does not let us in: what was bought is not lost with a key."""


class _Call(Timed):
    """Measures a call of an adapter."""

    def word_for(self, error: BaseException) -> str:
        return error.code if isinstance(error, ProviderError) else super().word_for(error)


@contextmanager
def _measured(provider: MediaGeneratorModel, operation: str) -> Generator[None]:
    with tracing.span(f"provider {operation}", provider=provider.name), _Call(PROVIDER_CALLS, provider.name, operation):
        yield


async def submit(provider: MediaGeneratorModel, submission: Submission, *, patience: timedelta) -> Reference:
    """Buy one generation.

    Raises:
        ProviderError: As `MediaGeneratorModel.submit` does; AnswerLostError also when it takes too long.
    """
    if patience <= timedelta(0):
        raise NotReachedError("writing the intent down took so long that it was not sent")
    try:
        with _measured(provider, "submit"):
            async with asyncio.timeout(patience.total_seconds()):
                return _storable_reference(await provider.submit(submission))
    except ProviderError:
        raise
    except TimeoutError as error:
        raise AnswerLostError(f"{provider.name} did not answer in time") from error
    except Exception as error:
        raise _adapter_bug(provider, error) from error


async def find(provider: MediaGeneratorModel, submission: Submission, since: datetime) -> Reference | None:
    """Look a purchase up.

    Raises:
        ProviderError: It cannot be said now.
    """
    try:
        with _measured(provider, "find"):
            async with asyncio.timeout(CALL_TIMEOUT.total_seconds()):
                found = await provider.find(submission, since)
            return None if found is None else _storable_reference(found)
    except ProviderError:
        raise
    except TimeoutError as error:
        raise NotReachedError(f"{provider.name} did not answer in time") from error
    except Exception as error:
        raise _adapter_bug(provider, error) from error


async def upload(provider: MediaGeneratorModel, file: InputFile) -> str:
    """Hand an input file over.

    Raises:
        ProviderError: It could not be; nothing was bought.
    """
    try:
        with _measured(provider, "upload"):
            async with asyncio.timeout(UPLOAD_TIMEOUT.total_seconds()):
                return str(await provider.upload(file))
    except ProviderError as error:
        if error.sent is Sent.NO:
            raise
        # Whether the file arrived does not matter: another one may follow.
        raise NotReachedError(error.message) from error
    except TimeoutError as error:
        raise NotReachedError(f"{provider.name} did not take {file.name} in time") from error
    except Exception as error:
        raise NotReachedError(_adapter_bug(provider, error).message) from error


class AdapterBugError(OutputError):
    """The adapter failed in a way that it does not explain; it may be better next time."""


async def poll(provider: MediaGeneratorModel, reference: Reference) -> Outcome:
    """What became of a purchase; a provider that cannot be asked now counts as still at work.

    Raises:
        AdapterBugError: The adapter is broken, or what it got from the provider is.
    """
    try:
        with _measured(provider, "poll"):
            async with asyncio.timeout(CALL_TIMEOUT.total_seconds()):
                return _checked_outcome(await provider.poll(reference))
    except (NotReachedError, BusyError, AnswerLostError) as error:
        log.info("poll_delayed", error=error.message)
        return Running(wait=error.retry_after)
    except (UnauthorizedError, CreditError) as error:
        log.warning("poll_refused", error=error.message)
        return Running(wait=REFUSED_POLL_INTERVAL)
    except ProviderError as error:
        return _checked_outcome(Failed(error))
    except TimeoutError:
        log.info("poll_delayed", error="no answer in time")
        return Running()
    except Exception as error:
        log.exception("provider_defect", provider=provider.name)
        raise AdapterBugError(f"the adapter of {provider.name} failed: {type(error).__name__}") from error


async def cancel(provider: MediaGeneratorModel, reference: Reference) -> CancelAnswer | None:
    """Ask a provider to stop; None: it cannot be asked now."""
    if not provider.capabilities.cancel:
        return CancelAnswer.TOO_LATE
    try:
        with _measured(provider, "cancel"):
            async with asyncio.timeout(CALL_TIMEOUT.total_seconds()):
                return await provider.cancel(reference)
    except (NotReachedError, BusyError, TimeoutError) as error:
        log.info("cancel_delayed", error=str(error))
        return None
    except ProviderError as error:
        log.warning("cancel_refused", error=error.message)
    except Exception:
        log.exception("provider_defect", provider=provider.name)
    return CancelAnswer.TOO_LATE


async def chunks(provider: MediaGeneratorModel, output: Output) -> AsyncGenerator[bytes]:
    """The bytes of an output; a generator, so that it can be closed half-way, whatever a plug-in hands out.

    Raises:
        NotReachedError, BusyError: Fetch it again later.
        OutputError: It cannot be had.
    """
    source: AsyncIterator[bytes] | None = None
    try:
        source = aiter(provider.open(output))
        while True:
            async with asyncio.timeout(CALL_TIMEOUT.total_seconds()):
                chunk = await anext(source)
            yield chunk
    except StopAsyncIteration:
        return
    except Exception as error:
        raise _download_error(provider, error) from error
    finally:
        if isinstance(source, AsyncGenerator):
            await source.aclose()


async def settled(provider: MediaGeneratorModel, reference: Reference) -> None:
    """Let a provider's adapter tidy up; whatever goes wrong there changes nothing."""
    try:
        async with asyncio.timeout(CALL_TIMEOUT.total_seconds()):
            await provider.settled(reference)
    except Exception as error:  # noqa: BLE001 - what is left behind is swept up some day
        log.warning("not_tidied_up", provider=provider.name, error=repr(error))


async def callback_keys(provider: MediaGeneratorModel) -> Sequence[str] | None:
    """What signatures are checked with; None: the provider does not say now."""
    try:
        with _measured(provider, "callback_keys"):
            async with asyncio.timeout(CALL_TIMEOUT.total_seconds()):
                return [str(key) for key in await provider.callback_keys()]
    except Exception as error:  # noqa: BLE001 - polls go on, and there is a next time
        log.warning("callback_keys_missing", provider=provider.name, error=repr(error))
        return None


def estimate(offer: Offer, given: Mapping[str, Any]) -> Decimal | None:
    """What a complete input is expected to cost; None: not known, and nothing waits for a price."""
    try:
        told = offer.provider.estimate(offer.card, given)
        return costs.storable_amount(None if told is None else Decimal(told))
    except Exception:
        log.exception("provider_defect", provider=offer.provider.name)
        return None


def _adapter_bug(provider: MediaGeneratorModel, error: Exception) -> ProviderDefectError:
    log.error("provider_defect", provider=provider.name, exc_info=error)
    return ProviderDefectError(f"the adapter of {provider.name} failed: {type(error).__name__}")


def _download_error(provider: MediaGeneratorModel, error: Exception) -> ProviderError:
    """What an error means for bytes that were paid for: to be had later, or not at all."""
    if isinstance(error, NotReachedError | BusyError | OutputError):
        return error
    if isinstance(error, AnswerLostError | UnauthorizedError | CreditError):
        return NotReachedError(f"{provider.name} does not give the bytes now: {error.message}")
    if isinstance(error, ProviderError):
        return OutputError(error.message)
    if isinstance(error, TimeoutError):
        return NotReachedError(f"the bytes of {provider.name} stopped coming")
    log.error("provider_defect", provider=provider.name, exc_info=error)
    return OutputError(f"the adapter of {provider.name} failed: {type(error).__name__}")


def _storable_reference(reference: Any) -> Reference:
    """The reference, if another process can read what will be stored of it.

    Raises:
        TypeError, ValueError: It cannot; a defect of the adapter.
    """
    return msgspec.json.decode(msgspec.json.encode(storable(msgspec.to_builtins(reference))), type=Reference)


def _checked_outcome(outcome: Any) -> Outcome:
    """The outcome, if it is one.

    What was bought was bought: an error that says that it was not sent is about the question, unless it is VoidError.

    Raises:
        TypeError, ValueError: It is none; a defect of the adapter.
    """
    if isinstance(outcome, Failed):
        error = outcome.error
        knows = error.sent is Sent.YES or isinstance(error, VoidError)
        return outcome if knows else Failed(GenerationFailedError(error.message))
    if isinstance(outcome, Running):
        progress = None if outcome.progress is None else min(max(float(outcome.progress), 0.0), 1.0)
        return Running(progress, outcome.wait, _log_text(outcome.log))
    if isinstance(outcome, Canceled):
        return replace(outcome, cost=_cost(outcome.cost))
    if isinstance(outcome, Succeeded):
        if len(outcome.outputs) > MAX_OUTPUTS:
            log.warning("outputs_left_out", outputs=len(outcome.outputs), kept=MAX_OUTPUTS)
        outputs, units = tuple(outcome.outputs[:MAX_OUTPUTS]), costs.valid_units(outcome.units)
        return replace(outcome, outputs=outputs, cost=_cost(outcome.cost), units=units, log=_log_text(outcome.log))
    raise TypeError(f"{type(outcome).__name__} is no outcome")


def _log_text(told: Any) -> str | None:
    """A log that can be shown; what is none is left out, the result is worth more."""
    return told if isinstance(told, str) else None


def _cost(told: Any) -> Decimal | None:
    """A cost that can be stored; what cannot is logged and left out, the result is worth more."""
    if told is None:
        return None
    cost = None
    with suppress(ArithmeticError, TypeError, ValueError):
        cost = costs.storable_amount(Decimal(told))
    if cost is None:
        log.warning("cost_not_stored", cost=repr(told)[:100])
    return cost
