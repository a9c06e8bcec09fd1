"""Every call of a provider's adapter: bounded in time, and nothing but ProviderErrors comes out of it."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from datetime import datetime, timedelta
from typing import Final

import structlog

from app.media_generator.errors import (
    AnswerLostError,
    BusyError,
    CreditError,
    NotReachedError,
    OutputError,
    ProviderDefectError,
    ProviderError,
    UnauthorizedError,
)
from app.media_generator.media_generator_model import (
    CancelAnswer,
    Failed,
    MediaGeneratorModel,
    Outcome,
    Output,
    Reference,
    Running,
    Submission,
)

log = structlog.get_logger(__name__)

PATIENCE: Final = timedelta(seconds=60)
"""For an answer, or for the next chunk of an output."""
WHILE_REFUSED: Final = timedelta(seconds=10)
"""Between two questions while the provider does not let us in: what was bought is not lost with a key."""


async def submit(provider: MediaGeneratorModel, submission: Submission, *, patience: timedelta) -> Reference:
    """Buy one generation.

    Raises:
        ProviderError: As `MediaGeneratorModel.submit` does; AnswerLostError also when it takes too long.
    """
    if patience <= timedelta(0):
        raise NotReachedError("writing the intent down took so long that it was not sent")
    try:
        async with asyncio.timeout(patience.total_seconds()):
            return await provider.submit(submission)
    except ProviderError:
        raise
    except TimeoutError as error:
        raise AnswerLostError(f"{provider.name} did not answer in time") from error
    except Exception as error:
        log.exception("provider_defect", provider=provider.name)
        raise ProviderDefectError(f"the adapter of {provider.name} failed: {type(error).__name__}") from error


async def find(provider: MediaGeneratorModel, submission: Submission, since: datetime) -> Reference | None:
    """Look a purchase up.

    Raises:
        ProviderError: It cannot be said now.
    """
    try:
        async with asyncio.timeout(PATIENCE.total_seconds()):
            return await provider.find(submission, since)
    except ProviderError:
        raise
    except TimeoutError as error:
        raise NotReachedError(f"{provider.name} did not answer in time") from error
    except Exception as error:
        log.exception("provider_defect", provider=provider.name)
        raise ProviderDefectError(f"the adapter of {provider.name} failed: {type(error).__name__}") from error


async def poll(provider: MediaGeneratorModel, reference: Reference) -> Outcome:
    """What became of a purchase; a provider that cannot be asked now counts as still at work."""
    try:
        async with asyncio.timeout(PATIENCE.total_seconds()):
            return await provider.poll(reference)
    except (NotReachedError, BusyError) as error:
        log.info("poll_delayed", error=error.message)
        return Running(wait=error.retry_after)
    except (UnauthorizedError, CreditError) as error:
        log.warning("poll_refused", error=error.message)
        return Running(wait=WHILE_REFUSED)
    except ProviderError as error:
        return Failed(error)
    except TimeoutError:
        log.info("poll_delayed", error="no answer in time")
        return Running()
    except Exception as error:
        log.exception("provider_defect", provider=provider.name)
        return Failed(OutputError(f"the adapter of {provider.name} failed: {type(error).__name__}"))


async def cancel(provider: MediaGeneratorModel, reference: Reference) -> CancelAnswer | None:
    """Ask a provider to stop; None: it cannot be asked now."""
    if not provider.capabilities.cancel:
        return CancelAnswer.TOO_LATE
    try:
        async with asyncio.timeout(PATIENCE.total_seconds()):
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
            async with asyncio.timeout(PATIENCE.total_seconds()):
                chunk = await anext(source)
            yield chunk
    except StopAsyncIteration:
        return
    except ProviderError:
        raise
    except TimeoutError as error:
        raise NotReachedError(f"the bytes of {provider.name} stopped coming") from error
    except Exception as error:
        log.exception("provider_defect", provider=provider.name)
        raise OutputError(f"the adapter of {provider.name} failed: {type(error).__name__}") from error
    finally:
        if isinstance(source, AsyncGenerator):
            await source.aclose()
