"""The rule that an answer belongs to its question, as a test: a part of `ProviderContract`."""

# ruff: noqa: S101 - these are tests; pytest explains its asserts

import pytest

from app.media_generator.contract.failure_contract import FailureContract
from app.media_generator.contract.http import shifted_answers
from app.media_generator.errors import BusyError, NotReachedError
from app.media_generator.media_generator_model import (
    CancelAnswer,
    MediaGeneratorModel,
    Output,
    Reference,
    Running,
    Succeeded,
)

ROUNDS = 3


class AnswerContract(FailureContract):
    """Skipped where the provider makes no calls through `open_http`."""

    async def test_answer_about_another_purchase_settles_nothing(self, provider: MediaGeneratorModel) -> None:
        """After a server has answered twice, answers on a kept connection may be those of earlier calls.

        Calls on connections of their own get their own answers: use one for every call whose answer does not say which
        purchase it is about, and `ask_about` for the others.
        """
        first, second = [await provider.submit(self.usual(provider)) for _ in range(2)]
        outputs = {one.external_id: await self._outputs(provider, one) for one in (first, second)}
        running = await provider.submit(self.usual(provider))
        seen = list[tuple[str, set[Output]]]()

        with shifted_answers() as clients:
            for reference in (running, first, running, second) * ROUNDS:
                seen.append((reference.external_id, await self._shifted_poll(provider, reference)))
            if provider.capabilities.cancel:
                await self._shifted_cancel(provider, first)
            for output in outputs[first.external_id]:
                async for _chunk in provider.open(output):
                    pass

        if not clients:
            pytest.skip("the provider makes no calls through `open_http`")
        assert not any(client.streams_kept for client in clients), "an output was read from a kept connection"
        outputs[running.external_id] = await self._outputs(provider, running)
        assert await self._outputs(provider, first) == outputs[first.external_id]
        for name, given in seen:
            foreign = set[Output]().union(*(of for other, of in outputs.items() if other != name))
            assert not given & (foreign - outputs[name]), "it was given the result of another purchase"

    async def _outputs(self, provider: MediaGeneratorModel, reference: Reference) -> set[Output]:
        outcome = await self._outcome(provider, reference)
        assert isinstance(outcome, Succeeded), outcome
        return set(outcome.outputs)

    async def _shifted_poll(self, provider: MediaGeneratorModel, reference: Reference) -> set[Output]:
        try:
            outcome = await provider.poll(reference)
        except (NotReachedError, BusyError):
            return set()
        assert isinstance(outcome, Running | Succeeded), f"a purchase that succeeds was settled as {outcome}"
        return set() if isinstance(outcome, Running) else set(outcome.outputs)

    async def _shifted_cancel(self, provider: MediaGeneratorModel, finished: Reference) -> None:
        try:
            answer = await provider.cancel(finished)
        except (NotReachedError, BusyError):
            return
        assert answer is not CancelAnswer.CANCELED
