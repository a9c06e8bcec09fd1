"""Every call to a provider's adapter: limited in time, and only ProviderErrors come out of it."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from hashlib import sha256
from typing import Any, Final

import msgspec
import structlog

from app.core.database.text import storable
from app.core.redaction import learn, redacted
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
    RefusedError,
    Sent,
    UnauthorizedError,
    UnreadableAnswerError,
    VoidError,
)
from app.media_generator.media_generator_model import (
    CancelAnswer,
    Canceled,
    Candidates,
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
from app.media_generator.raw_answers import ANSWERS, RawAnswer
from app.media_generator.registry import Offer

log = structlog.get_logger(__name__)

CALL_TIMEOUT: Final = timedelta(seconds=60)
"""Time limit for an answer, or for the next chunk of an output."""
UPLOAD_TIMEOUT: Final = timedelta(minutes=10)
"""Time limit for an input file."""
MAX_OUTPUTS: Final = 256
"""Per purchase, whatever the provider reports: each output is an object in the store and a row."""
MAX_LOG_CHARS: Final = 16_000
"""Characters of a provider's log that are looked at, from its end."""
LONGEST_POLL_INTERVAL: Final = timedelta(hours=1)
"""Longest time for which a provider may ask not to be polled."""
REFUSED_POLL_INTERVAL: Final = timedelta(seconds=10)
"""Between two polls while the provider rejects our credentials: purchases are not lost with a key."""


class _Call(Timed):
    """Measures a call to an adapter."""

    def outcome_of(self, error: BaseException) -> str:
        return error.code if isinstance(error, ProviderError) else super().outcome_of(error)


@contextmanager
def _measured(provider: MediaGeneratorModel, operation: str, answers: list[RawAnswer] | None = None) -> Generator[None]:
    """Measure a call; the last answer that arrives during it is put into `answers`."""
    token = ANSWERS.set(answers)
    try:
        with (
            tracing.span(f"provider {operation}", provider=provider.name),
            _Call(PROVIDER_CALLS, provider.name, operation),
        ):
            yield
    finally:
        ANSWERS.reset(token)


async def submit(provider: MediaGeneratorModel, submission: Submission, *, time_limit: timedelta) -> Reference:
    """Submit one generation (billable).

    Raises:
        ProviderError: As `MediaGeneratorModel.submit` does; AnswerLostError also on a time-out.
    """
    if time_limit <= timedelta(0):
        raise NotReachedError("storing the intent took so long that the request was not sent")
    answers = list[RawAnswer]()
    try:
        with _measured(provider, "submit", answers):
            async with asyncio.timeout(time_limit.total_seconds()):
                return _storable_reference(await provider.submit(submission))
    except ProviderError as error:
        error.answer = next(iter(answers), None)
        raise
    except TimeoutError as error:
        lost = AnswerLostError(f"{provider.name} did not answer in time")
        lost.answer = next(iter(answers), None)
        raise lost from error
    except Exception as error:
        raise _adapter_bug(provider, error, answers) from error


async def find(provider: MediaGeneratorModel, submission: Submission, since: datetime) -> Reference | Candidates | None:
    """Look up a purchase whose answer was lost.

    Raises:
        ProviderError: The lookup is not possible at the moment.
    """
    try:
        with _measured(provider, "find"):
            async with asyncio.timeout(CALL_TIMEOUT.total_seconds()):
                found = await provider.find(submission, since)
            return _storable_found(found)
    except ProviderError:
        raise
    except TimeoutError as error:
        raise NotReachedError(f"{provider.name} did not answer in time") from error
    except Exception as error:
        raise _adapter_bug(provider, error) from error


async def upload(provider: MediaGeneratorModel, file: InputFile) -> str:
    """Upload an input file.

    Raises:
        ProviderError: The upload failed; nothing was billed.
    """
    try:
        with _measured(provider, "upload"):
            async with asyncio.timeout(UPLOAD_TIMEOUT.total_seconds()):
                return str(await provider.upload(file))
    except ProviderError as error:
        if error.sent is Sent.NO:
            raise
        # Whether the file arrived does not matter: it may be uploaded again.
        raise NotReachedError(error.message) from error
    except TimeoutError as error:
        raise NotReachedError(f"{provider.name} did not take {file.name} in time") from error
    except Exception as error:
        raise NotReachedError(_adapter_bug(provider, error).message) from error


class AdapterBugError(OutputError):
    """The adapter raised an unexpected error; the next call may succeed."""


async def poll(provider: MediaGeneratorModel, reference: Reference) -> Outcome:
    """The state of a purchase; Running while the provider cannot be reached.

    Raises:
        AdapterBugError: The adapter has a bug, or received something unexpected from the provider.
    """
    answers = list[RawAnswer]()
    try:
        with _measured(provider, "poll", answers):
            async with asyncio.timeout(CALL_TIMEOUT.total_seconds()):
                return _checked_outcome(await provider.poll(reference), answers)
    except (NotReachedError, BusyError, AnswerLostError) as error:
        unreadable = isinstance(error, UnreadableAnswerError)
        log.info("poll_delayed", error=error.message, unreadable=unreadable)
        answer = next(iter(answers), None)
        return Running(wait=error.retry_after, not_reached=error.message, unreadable=unreadable, answer=answer)
    except (UnauthorizedError, CreditError) as error:
        log.warning("poll_refused", error=error.message)
        answer = next(iter(answers), None)
        return Running(wait=REFUSED_POLL_INTERVAL, not_reached=error.message, answer=answer)
    except RefusedError as error:
        # A proxy may have answered instead, so it says nothing about the purchase.
        log.warning("poll_refused", error=error.message)
        answer = next(iter(answers), None)
        return Running(wait=REFUSED_POLL_INTERVAL, not_reached=error.message, refused=True, answer=answer)
    except ProviderError as error:
        return _checked_outcome(Failed(error), answers)
    except TimeoutError:
        log.info("poll_delayed", error="no answer in time")
        return Running(not_reached=f"{provider.name} did not answer in time")
    except Exception as error:
        log.exception("provider_defect", provider=provider.name)
        bug = AdapterBugError(f"the adapter of {provider.name} failed: {type(error).__name__}")
        bug.answer = next(iter(answers), None)
        raise bug from error


async def cancel(provider: MediaGeneratorModel, reference: Reference) -> CancelAnswer | None:
    """Send a cancel request to the provider; None: it cannot be reached at the moment."""
    if not provider.capabilities.cancel:
        return CancelAnswer.TOO_LATE
    try:
        with _measured(provider, "cancel"):
            async with asyncio.timeout(CALL_TIMEOUT.total_seconds()):
                return await provider.cancel(reference)
    except (NotReachedError, BusyError, UnreadableAnswerError, TimeoutError) as error:
        log.info("cancel_delayed", error=str(error))
        return None
    except ProviderError as error:
        log.warning("cancel_refused", error=error.message)
    except Exception:
        log.exception("provider_defect", provider=provider.name)
    return CancelAnswer.TOO_LATE


async def chunks(provider: MediaGeneratorModel, output: Output) -> AsyncGenerator[bytes]:
    """The bytes of an output; a generator, so that it can be closed early whatever kind of iterator a plug-in returns.

    Raises:
        NotReachedError, BusyError: Fetch it again later.
        OutputError: It cannot be fetched.
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
    """Let the adapter delete what it kept for a purchase; failures are only logged."""
    try:
        async with asyncio.timeout(CALL_TIMEOUT.total_seconds()):
            await provider.settled(reference)
    except Exception as error:  # noqa: BLE001 - a failed cleanup must not fail the job
        log.warning("provider_cleanup_failed", provider=provider.name, error=repr(error))


async def callback_keys(provider: MediaGeneratorModel) -> Sequence[str] | None:
    """The keys to verify callback signatures with; None: they cannot be fetched at the moment."""
    try:
        with _measured(provider, "callback_keys"):
            async with asyncio.timeout(CALL_TIMEOUT.total_seconds()):
                keys = [str(key) for key in await provider.callback_keys()]
            learn(keys)
            return keys
    except Exception as error:  # noqa: BLE001 - polling goes on, and the keys are fetched again later
        log.warning("callback_keys_missing", provider=provider.name, error=repr(error))
        return None


def estimate(offer: Offer, given: Mapping[str, Any]) -> Decimal | None:
    """The expected cost of a complete input; None: unknown, which never delays a job."""
    try:
        estimated = offer.provider.estimate(offer.card, given)
        return costs.storable_amount(None if estimated is None else Decimal(estimated))
    except Exception:
        log.exception("provider_defect", provider=offer.provider.name)
        return None


def likeness(offer: Offer, prompt: str, given: Mapping[str, Any]) -> str:
    """SHA-256 in hex, equal for requests that the provider cannot tell apart."""
    try:
        seen = offer.provider.likeness(offer.card, prompt, given)
        encoded = msgspec.json.encode(seen, order="deterministic")
    except Exception:
        log.exception("provider_defect", provider=offer.provider.name)
        encoded = msgspec.json.encode([offer.card.name, prompt, given], order="deterministic")
    return sha256(encoded).hexdigest()


def _adapter_bug(
    provider: MediaGeneratorModel, error: Exception, answers: Sequence[RawAnswer] = ()
) -> ProviderDefectError:
    log.error("provider_defect", provider=provider.name, exc_info=error)
    bug = ProviderDefectError(f"the adapter of {provider.name} failed: {type(error).__name__}")
    bug.answer = next(iter(answers), None)
    return bug


def _download_error(provider: MediaGeneratorModel, error: Exception) -> ProviderError:
    """What an error means for an output that was paid for: fetch it later, or give up."""
    if isinstance(error, NotReachedError | BusyError | OutputError):
        return error
    if isinstance(error, AnswerLostError | UnauthorizedError | CreditError):
        return NotReachedError(f"{provider.name} does not serve the output at the moment: {error.message}")
    if isinstance(error, ProviderError):
        return OutputError(error.message)
    if isinstance(error, TimeoutError):
        return NotReachedError(f"the download from {provider.name} stalled")
    log.error("provider_defect", provider=provider.name, exc_info=error)
    return OutputError(f"the adapter of {provider.name} failed: {type(error).__name__}")


def _storable_reference(reference: Any) -> Reference:
    """The reference as it will be stored and read by other processes.

    Raises:
        TypeError, ValueError: It cannot be stored; a bug in the adapter.
    """
    return msgspec.json.decode(msgspec.json.encode(storable(msgspec.to_builtins(reference))), type=Reference)


def _storable_found(found: Any) -> Reference | Candidates | None:
    if isinstance(found, Candidates):
        alike, doubtful = map(_storable_reference, found.alike), map(_storable_reference, found.doubtful)
        return Candidates(tuple(alike), tuple(doubtful), str(storable(found.why)))
    return None if found is None else _storable_reference(found)


def _checked_outcome(outcome: Any, answers: Sequence[RawAnswer]) -> Outcome:
    """The outcome, validated, with the answer that told it.

    An error with Sent.NO is about the poll and not about the purchase, unless it is VoidError.

    Raises:
        TypeError, ValueError: It is not an outcome; a bug in the adapter.
    """
    if isinstance(outcome, Failed):
        error = outcome.error
        if error.sent is not Sent.YES and not isinstance(error, VoidError):
            error = GenerationFailedError(error.message)
        error.answer = next(iter(answers), None)
        return Failed(error)
    if isinstance(outcome, Running):
        progress = None if outcome.progress is None else min(max(float(outcome.progress), 0.0), 1.0)
        wait = None if outcome.wait is None else min(outcome.wait, LONGEST_POLL_INTERVAL)
        return Running(progress, wait, _log_text(outcome.log))
    if isinstance(outcome, Canceled):
        return replace(outcome, cost=_cost(outcome.cost))
    if isinstance(outcome, Succeeded):
        left_out = max(len(outcome.outputs) - MAX_OUTPUTS, 0)
        if left_out:
            log.warning("outputs_left_out", outputs=len(outcome.outputs), kept=MAX_OUTPUTS)
        outputs, units = tuple(outcome.outputs[:MAX_OUTPUTS]), costs.valid_units(outcome.units)
        log_text, cost = _log_text(outcome.log), _cost(outcome.cost)
        told = replace(outcome, log=log_text, left_out=left_out, answer=next(iter(answers), None))
        return replace(told, outputs=outputs, cost=cost, units=units)
    raise TypeError(f"{type(outcome).__name__} is no outcome")


def _log_text(log_text: Any) -> str | None:
    """The provider's log; anything but text is dropped, so that it cannot cost the result."""
    return redacted(log_text[-MAX_LOG_CHARS:]) if isinstance(log_text, str) else None


def _cost(reported: Any) -> Decimal | None:
    """The reported cost; one that cannot be stored is logged and dropped, so that it cannot cost the result."""
    if reported is None:
        return None
    cost = None
    with suppress(ArithmeticError, TypeError, ValueError):
        cost = costs.storable_amount(Decimal(reported))
    if cost is None:
        log.warning("cost_not_stored", cost=repr(reported)[:100])
    return cost
