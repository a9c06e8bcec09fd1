"""The rules for failures, as tests: a part of `ProviderContract`.

A provider's test causes each failure in `troubled`; the tests here check how the provider reports it.
"""

# ruff: noqa: S101 - these are tests; pytest explains its asserts

import asyncio
import tracemalloc
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from enum import StrEnum
from types import MappingProxyType
from typing import ClassVar, Final

import pytest

from app.media_generator.errors import (
    AnswerLostError,
    BusyError,
    CreditError,
    InputRefusedError,
    ModelGoneError,
    NotReachedError,
    OutputError,
    ProviderError,
    Sent,
    UnauthorizedError,
)
from app.media_generator.media_generator_model import (
    CancelAnswer,
    Canceled,
    Candidates,
    Failed,
    MediaGeneratorModel,
    Outcome,
    Reference,
    Running,
    Submission,
    Succeeded,
)

PATIENCE_SECONDS: Final = 60
FLAT_BYTES: Final = 48 * 1024 * 1024
"""Memory limit for reading an output of any size."""


class Trouble(StrEnum):
    """A failure at a provider."""

    NOT_REACHED = "not_reached"  # no connection is accepted
    BUSY = "busy"  # 429, with a Retry-After or without
    INPUT_REFUSED = "input_refused"  # 400 or 422
    UNAUTHORIZED = "unauthorized"  # 401 or 403
    NO_CREDIT = "no_credit"  # 402
    MODEL_GONE = "model_gone"  # 404
    ACCEPTED_THEN_500 = "accepted_then_500"  # it was accepted, and the answer says otherwise
    ACCEPTED_THEN_SILENCE = "accepted_then_silence"  # it was accepted, and no answer comes
    ACCEPTED_THEN_DROPPED = "accepted_then_dropped"  # it was accepted, and the connection is closed
    FAILED_LATER = "failed_later"  # it was accepted, and fails later
    OUTPUT_GONE = "output_gone"  # the output can no longer be fetched
    OUTPUT_CUT = "output_cut"  # the download breaks off
    OUTPUT_HUGE = "output_huge"  # 64 MiB or more


REFUSALS: Final[Mapping[Trouble, type[ProviderError]]] = MappingProxyType(
    {
        Trouble.NOT_REACHED: NotReachedError,
        Trouble.BUSY: BusyError,
        Trouble.INPUT_REFUSED: InputRefusedError,
        Trouble.UNAUTHORIZED: UnauthorizedError,
        Trouble.NO_CREDIT: CreditError,
        Trouble.MODEL_GONE: ModelGoneError,
    }
)
"""Failures that certainly cost nothing."""
LOST: Final = (Trouble.ACCEPTED_THEN_500, Trouble.ACCEPTED_THEN_SILENCE, Trouble.ACCEPTED_THEN_DROPPED)


class FailureContract:
    """Each test is skipped where `troubled` cannot cause its failure."""

    submit_seconds: ClassVar[float] = 5.0
    """The engine's time limit of `submit`; configure the tested provider to give up earlier."""

    async def troubled(self, provider: MediaGeneratorModel, trouble: Trouble) -> Submission | None:  # noqa: ARG002 - overridden
        """Prepare a failure and return the submission that runs into it; None: it cannot be caused."""
        return None

    async def bought(self) -> int | None:
        """How many submissions the provider accepted in this test; None: unknown."""
        return None

    @pytest.mark.parametrize("trouble", REFUSALS)
    async def test_refused_submit_is_reported_as_not_sent(
        self, provider: MediaGeneratorModel, trouble: Trouble
    ) -> None:
        """Only then may the engine retry, or use another provider."""
        submission = await self._troubled(provider, trouble)

        with pytest.raises(REFUSALS[trouble]) as refusal:
            await provider.submit(submission)

        assert refusal.value.sent is Sent.NO
        assert refusal.value.message
        assert await self.bought() in {0, None}

    @pytest.mark.parametrize("trouble", LOST)
    async def test_lost_answer_is_reported_as_unknown_and_found(
        self, provider: MediaGeneratorModel, trouble: Trouble
    ) -> None:
        """It is sent once; a provider with `findable` finds it."""
        submission = await self._troubled(provider, trouble)
        started = datetime.now(UTC)

        with suppress(TimeoutError):
            async with asyncio.timeout(self.submit_seconds):
                with pytest.raises(AnswerLostError):
                    await provider.submit(submission)

        assert await self.bought() in {1, None}
        if provider.capabilities.findable:
            found = await self._found(provider, submission, started)
            assert isinstance(await self._outcome(provider, found), Succeeded)

    async def test_later_failure_is_reported_as_sent(self, provider: MediaGeneratorModel) -> None:
        """It may have been billed, so it is not retried automatically."""
        submission = await self._troubled(provider, Trouble.FAILED_LATER)

        outcome = await self._outcome(provider, await provider.submit(submission))

        assert isinstance(outcome, Failed), outcome
        assert outcome.error.sent is Sent.YES
        assert outcome.error.message

    async def test_missing_output_is_a_final_error(self, provider: MediaGeneratorModel) -> None:
        """Otherwise the engine would fetch it again and again."""
        submission = await self._troubled(provider, Trouble.OUTPUT_GONE)

        outcome = await self._outcome(provider, await provider.submit(submission))

        assert isinstance(outcome, Succeeded), outcome
        with pytest.raises(OutputError):
            await self._size(provider, outcome)

    async def test_truncated_output_is_an_error(self, provider: MediaGeneratorModel) -> None:
        """Half a file must not pass for a complete one."""
        submission = await self._troubled(provider, Trouble.OUTPUT_CUT)

        outcome = await self._outcome(provider, await provider.submit(submission))

        assert isinstance(outcome, Succeeded), outcome
        with pytest.raises((OutputError, NotReachedError)):
            await self._size(provider, outcome)

    async def test_huge_output_is_streamed_in_little_memory(self, provider: MediaGeneratorModel) -> None:
        """Chunks are passed on, never collected."""
        submission = await self._troubled(provider, Trouble.OUTPUT_HUGE)
        outcome = await self._outcome(provider, await provider.submit(submission))
        assert isinstance(outcome, Succeeded), outcome

        tracemalloc.start()
        try:
            size = await self._size(provider, outcome)
            _, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

        assert size > FLAT_BYTES
        assert most < FLAT_BYTES

    async def test_cancel_after_completion_is_too_late(self, provider: MediaGeneratorModel) -> None:
        """A late cancel request loses no result."""
        submission = self.usual(provider)
        reference = await provider.submit(submission)
        outcome = await self._outcome(provider, reference)
        assert isinstance(outcome, Succeeded), outcome
        if not provider.capabilities.cancel:
            return

        answer = await provider.cancel(reference)

        if answer is not CancelAnswer.REQUESTED:
            assert answer is CancelAnswer.TOO_LATE
            assert isinstance(await provider.poll(reference), Succeeded)

    def usual(self, provider: MediaGeneratorModel) -> Submission:
        """A submission that succeeds."""
        raise NotImplementedError

    async def _troubled(self, provider: MediaGeneratorModel, trouble: Trouble) -> Submission:
        submission = await self.troubled(provider, trouble)
        if submission is None:
            pytest.skip(f"cannot be caused at this provider: {trouble}")
        return submission

    async def _found(self, provider: MediaGeneratorModel, submission: Submission, since: datetime) -> Reference:
        found = await provider.find(submission, since)
        if isinstance(found, Candidates):
            assert not found.doubtful, found.why
            (found,) = found.alike
        assert found is not None
        return found

    async def _outcome(self, provider: MediaGeneratorModel, reference: Reference) -> Outcome:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while isinstance(outcome := await provider.poll(reference), Running):
                assert outcome.progress is None or 0 <= outcome.progress <= 1
                await asyncio.sleep(min(outcome.wait.total_seconds(), 1.0) if outcome.wait else 0.05)
        assert isinstance(outcome, Succeeded | Failed | Canceled)
        return outcome

    async def _size(self, provider: MediaGeneratorModel, outcome: Succeeded) -> int:
        size = 0
        for output in outcome.outputs:
            async for chunk in provider.open(output):
                size += len(chunk)
        return size
