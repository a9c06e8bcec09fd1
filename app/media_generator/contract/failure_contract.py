"""The rules for what goes wrong, as tests: a part of `ProviderContract`.

Whoever tests a provider says with `troubled` how each trouble is brought about; the rules say what must come of it.
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
"""The most memory that reading an output of any size may take."""


class Trouble(StrEnum):
    """What can go wrong at a provider."""

    NOT_REACHED = "not_reached"  # nobody accepts a connection
    BUSY = "busy"  # 429 or 503, with a Retry-After or without
    INPUT_REFUSED = "input_refused"  # 400 or 422
    UNAUTHORIZED = "unauthorized"  # 401 or 403
    NO_CREDIT = "no_credit"  # 402
    MODEL_GONE = "model_gone"  # 404 or 410
    ACCEPTED_THEN_500 = "accepted_then_500"  # it was bought, and the answer says something else
    ACCEPTED_THEN_SILENCE = "accepted_then_silence"  # it was bought, and no answer comes
    ACCEPTED_THEN_DROPPED = "accepted_then_dropped"  # it was bought, and the connection ends
    FAILED_LATER = "failed_later"  # it was taken, and fails
    OUTPUT_GONE = "output_gone"  # it was made, and cannot be fetched any more
    OUTPUT_CUT = "output_cut"  # its bytes break off
    OUTPUT_HUGE = "output_huge"  # it has 64 MiB or more


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
"""What certainly cost nothing."""
LOST: Final = (Trouble.ACCEPTED_THEN_500, Trouble.ACCEPTED_THEN_SILENCE, Trouble.ACCEPTED_THEN_DROPPED)


class FailureContract:
    """Each test is skipped where `troubled` has no way to bring its trouble about."""

    submit_seconds: ClassVar[float] = 5.0
    """After which the engine would cut `submit` off; the provider of the tests should give up before."""

    async def troubled(self, provider: MediaGeneratorModel, trouble: Trouble) -> Submission | None:  # noqa: ARG002 - overridden
        """Prepare a trouble, and give the submission that runs into it; None: it cannot be brought about."""
        return None

    async def bought(self) -> int | None:
        """How many submissions the provider has taken in this test, as it says itself; None: it does not say."""
        return None

    @pytest.mark.parametrize("trouble", REFUSALS)
    async def test_what_was_refused_is_said_to_have_cost_nothing(
        self, provider: MediaGeneratorModel, trouble: Trouble
    ) -> None:
        """Only then may the engine try again, or try another provider."""
        submission = await self._troubled(provider, trouble)

        with pytest.raises(REFUSALS[trouble]) as refusal:
            await provider.submit(submission)

        assert refusal.value.sent is Sent.NO
        assert refusal.value.message
        assert await self.bought() in {0, None}

    @pytest.mark.parametrize("trouble", LOST)
    async def test_what_may_have_been_bought_is_never_said_to_be_refused(
        self, provider: MediaGeneratorModel, trouble: Trouble
    ) -> None:
        """It is sent once; whoever can be asked for it has it, whoever can not is not believed to have none."""
        submission = await self._troubled(provider, trouble)
        begun = datetime.now(UTC)

        with suppress(TimeoutError):
            async with asyncio.timeout(self.submit_seconds):
                with pytest.raises(AnswerLostError):
                    await provider.submit(submission)

        assert await self.bought() in {1, None}
        if provider.capabilities.findable:
            found = await provider.find(submission, begun)
            assert found is not None
            assert isinstance(await self._outcome(provider, found), Succeeded)

    async def test_a_failure_after_the_purchase_is_told_as_one(self, provider: MediaGeneratorModel) -> None:
        """It may have been paid, so it is not tried again by itself."""
        submission = await self._troubled(provider, Trouble.FAILED_LATER)

        outcome = await self._outcome(provider, await provider.submit(submission))

        assert isinstance(outcome, Failed), outcome
        assert outcome.error.sent is Sent.YES
        assert outcome.error.message

    async def test_a_result_that_is_gone_is_not_asked_for_for_ever(self, provider: MediaGeneratorModel) -> None:
        """The engine ends the job with what it knows."""
        submission = await self._troubled(provider, Trouble.OUTPUT_GONE)

        outcome = await self._outcome(provider, await provider.submit(submission))

        assert isinstance(outcome, Succeeded), outcome
        with pytest.raises(OutputError):
            await self._size(provider, outcome)

    async def test_a_result_that_breaks_off_does_not_pass_for_a_whole_one(self, provider: MediaGeneratorModel) -> None:
        """Half a file must not end like a file."""
        submission = await self._troubled(provider, Trouble.OUTPUT_CUT)

        outcome = await self._outcome(provider, await provider.submit(submission))

        assert isinstance(outcome, Succeeded), outcome
        with pytest.raises((OutputError, NotReachedError)):
            await self._size(provider, outcome)

    async def test_a_huge_result_takes_little_memory(self, provider: MediaGeneratorModel) -> None:
        """Chunks pass through; nobody holds the whole."""
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

    async def test_what_is_finished_is_not_said_to_be_stopped(self, provider: MediaGeneratorModel) -> None:
        """A cancel that comes too late loses no result."""
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
        """A submission without trouble."""
        raise NotImplementedError

    async def _troubled(self, provider: MediaGeneratorModel, trouble: Trouble) -> Submission:
        submission = await self.troubled(provider, trouble)
        if submission is None:
            pytest.skip(f"there is no way to bring about: {trouble}")
        return submission

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
