"""The rule that whatever a provider answers is read: a part of `ProviderContract`.

One purchase is made and recorded. Then its answers are played back without the network, changed at every position.
"""

# ruff: noqa: S101 - these are tests; pytest explains its asserts

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from time import monotonic
from typing import Any, Final, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from app.core.http_client.protocol import Answer
from app.media_generator.adapter_kit.lenient_json import entries, members, parse
from app.media_generator.contract.answer_contract import AnswerContract
from app.media_generator.contract.http import Exchange, played_back, recorded_calls
from app.media_generator.contract.mutations import (
    json_values,
    mutated,
    mutations,
    noises,
    positions_of,
    written,
)
from app.media_generator.errors import ProviderError, Sent, UnreadableAnswerError
from app.media_generator.media_generator_model import (
    Canceled,
    Failed,
    MediaGeneratorModel,
    Outcome,
    Reference,
    Running,
    Submission,
    Succeeded,
)

SECONDS: Final = 3.0
"""Of each test; positions that are not reached by then are left out."""
EXAMPLES: Final = 60
PATIENCE: Final = 60
ACCEPTED: Final = (200, 201, 202, 203, 206, 226)
GARBAGE: Final = (b"", b"<html>busy</html>", b"null", b"[]", b"{}", b'"text"', b'{"error": {"message": "busy"}}')


_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Purchase:
    """A purchase that was made, and its calls."""

    submission: Submission
    reference: Reference
    submitted: Sequence[Exchange]
    polled: Sequence[Exchange]
    """Of the poll that found it finished."""
    opened: Sequence[Exchange]
    contents: Sequence[bytes]
    """Of its outputs."""


class OddAnswerContract(AnswerContract):
    """Each test is skipped where the provider makes no calls through `open_http`."""

    async def test_notation_of_an_answer_changes_no_result(self, provider: MediaGeneratorModel) -> None:
        """A byte order mark, a NaN or half a character in a field that nobody needs must not cost what was paid for.

        Read answers with `read_json` and `parse_json`.
        """
        bought = await self._recorded(provider)

        for call in _with_json((*bought.submitted, *bought.polled)):
            for name, body in noises(call.answer.body):
                contents = await self._contents_after(provider, bought, call, body)
                assert contents == bought.contents, f"{name} in the answer to {call.method} {call.url} cost the result"

    async def test_any_success_of_a_submit_is_read_or_unknown(self, provider: MediaGeneratorModel) -> None:
        """A gateway may make 201 of 200. Whatever is in it: after a success nobody may say that it cost nothing."""
        bought = await self._recorded(provider)
        call = _spending(bought)

        for status in ACCEPTED:
            for body in (call.answer.body, call.answer.body[:-2], *GARBAGE):
                with played_back(bought.submitted, _change(call, body, status=status)):
                    _, error = await _ended(provider.submit(bought.submission))
                assert error is None or error.sent is not Sent.NO, f"{status} with {body[:100]!r}: {error!r}"
                is_same = body == call.answer.body and status not in {202, 206}
                assert error is None or not is_same, f"{status} with the usual answer: {error!r}"

    async def test_odd_answer_to_submit_is_never_reported_as_not_sent(self, provider: MediaGeneratorModel) -> None:
        """Every part of it is dropped, null, of another type, huge: a reference, or an error with Sent.UNKNOWN."""
        bought = await self._recorded(provider)
        call = _spending(bought)
        calls = (*bought.submitted, *bought.polled, *bought.opened)

        async def check(body: bytes) -> None:
            with played_back(calls, _change(call, body)):
                reference, error = await _ended(provider.submit(bought.submission))
                if reference is None:
                    assert error is not None, "it returned nothing"
                    assert error.sent is not Sent.NO, f"the purchase was made: {error!r}"
                    return
                assert isinstance(reference.external_id, str)
                assert reference.external_id
                await _look(provider, reference)

        await _every_mutation([call], lambda _call, body: check(body))

    async def test_odd_answer_to_poll_is_an_outcome_or_a_named_error(self, provider: MediaGeneratorModel) -> None:
        """Only ProviderErrors; for an unreadable answer `UnreadableAnswerError`: it is polled again for a while."""
        bought = await self._recorded(provider)
        calls = (*bought.polled, *bought.opened)

        async def check(call: Exchange, body: bytes) -> None:
            with played_back(calls, _change(call, body)):
                await _look(provider, bought.reference)

        await _every_mutation(_with_json(bought.polled), check)

    async def test_odd_answer_to_cancel_and_find_is_a_named_error(self, provider: MediaGeneratorModel) -> None:
        """As for polls."""
        bought, can = await self._recorded(provider), provider.capabilities
        with recorded_calls() as calls:
            await self._other_calls(provider, bought)
        usual = list(calls)
        if not _with_json(usual):
            pytest.skip("it makes no such calls, or none that is answered with JSON")

        async def check(call: Exchange, body: bytes) -> None:
            with played_back(usual, _change(call, body)):
                await self._other_calls(provider, bought)

        assert can.cancel or can.findable or can.keeps_answers
        await _every_mutation(_with_json(usual), check)

    async def _other_calls(self, provider: MediaGeneratorModel, bought: Purchase) -> None:
        can = provider.capabilities
        if can.cancel:
            await _ended(provider.cancel(bought.reference))
        if can.findable or can.keeps_answers:
            await _ended(provider.find(bought.submission, datetime.now(UTC)))

    async def _recorded(self, provider: MediaGeneratorModel) -> Purchase:
        submission = self.usual(provider)
        with recorded_calls() as submitted:
            reference = await provider.submit(submission)
        outcome, polled = await self._recorded_polls(provider, reference)
        assert isinstance(outcome, Succeeded), outcome
        with recorded_calls() as opened:
            contents = await _contents(provider, outcome)
        if not submitted:
            pytest.skip("the provider makes no calls through `open_http`")
        return Purchase(submission, reference, list(submitted), polled, list(opened), contents)

    async def _recorded_polls(
        self, provider: MediaGeneratorModel, reference: Reference
    ) -> tuple[Outcome, Sequence[Exchange]]:
        async with asyncio.timeout(PATIENCE):
            while True:
                with recorded_calls() as polled:
                    outcome = await provider.poll(reference)
                if not isinstance(outcome, Running):
                    return outcome, list(polled)
                await asyncio.sleep(0.05)

    async def _contents_after(
        self, provider: MediaGeneratorModel, bought: Purchase, call: Exchange, body: bytes
    ) -> Sequence[bytes]:
        with played_back((*bought.submitted, *bought.polled, *bought.opened), _change(call, body)):
            reference = bought.reference if call in bought.polled else await provider.submit(bought.submission)
            # What is stored outside of the provider, such as callbacks, is as it was.
            outcome = await provider.poll(reference)
            assert isinstance(outcome, Succeeded), outcome
            return await _contents(provider, outcome)


async def _look(provider: MediaGeneratorModel, reference: Reference) -> None:
    """Poll and open; anything but a ProviderError passes through."""
    outcome, error = await _ended(provider.poll(reference))
    if outcome is None:
        assert error is not None, "it returned no outcome"
        assert error.message
        return
    assert isinstance(outcome, Running | Succeeded | Failed | Canceled)
    assert not isinstance(outcome, Failed) or outcome.error.message
    if isinstance(outcome, Succeeded):
        await _ended(_contents(provider, outcome))


async def _contents(provider: MediaGeneratorModel, outcome: Succeeded) -> list[bytes]:
    return [b"".join([chunk async for chunk in provider.open(output)]) for output in outcome.outputs]


async def _ended(call: Awaitable[_Result]) -> tuple[_Result | None, ProviderError | None]:
    """What a call returns, or its error; one that is no ProviderError passes through."""
    try:
        return await call, None
    except ProviderError as error:
        return None, error


def _with_json(calls: Sequence[Exchange]) -> list[Exchange]:
    return [call for call in calls if _json_of(call) is not None]


def _json_of(call: Exchange) -> Any:
    """The object or list in an answer; None: there is none, or it is empty."""
    try:
        value = parse(call.answer.body)
    except UnreadableAnswerError:
        return None
    return members(value) or entries(value) or None


def _spending(bought: Purchase) -> Exchange:
    calls = [call for call in _with_json(bought.submitted) if call.method != "GET"]
    if not calls:
        pytest.skip("the answer to its submission is no JSON")
    return calls[-1]


def _change(changed: Exchange, body: bytes, status: int | None = None) -> Callable[[Exchange], Answer]:
    """The change of one answer; all others are as they were."""
    answer = replace(changed.answer, body=body, status=status or changed.answer.status)
    return lambda call: answer if (call.method, call.url) == (changed.method, changed.url) else call.answer


async def _every_mutation(calls: Sequence[Exchange], check: Callable[[Exchange, bytes], Awaitable[None]]) -> None:
    """Check each mutation of each answer, then those that Hypothesis thinks of."""
    end = monotonic() + SECONDS
    for call in calls:
        for name, body in mutations(_json_of(call)):
            if monotonic() > end:
                break
            try:
                await check(call, body)
            except Exception as error:
                error.add_note(f"after {name} in the answer to {call.method} {call.url}: {body[:1_000]!r}")
                raise
    if calls:
        loop = asyncio.get_running_loop()
        await asyncio.to_thread(_with_hypothesis, calls, check, loop, end + SECONDS / 3)


def _with_hypothesis(
    calls: Sequence[Exchange],
    check: Callable[[Exchange, bytes], Awaitable[None]],
    loop: asyncio.AbstractEventLoop,
    end: float,
) -> None:
    failed = False

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=(HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example),
    )
    @given(st.data())
    def run(data: st.DataObject) -> None:
        nonlocal failed
        call = data.draw(st.sampled_from(calls))
        value = _json_of(call)
        for position in data.draw(st.lists(st.sampled_from(positions_of(value)), min_size=1, max_size=3)):
            value = mutated(value, position, data.draw(json_values()))
        if monotonic() > end and not failed:
            return
        try:
            asyncio.run_coroutine_threadsafe(_run(check(call, written(value))), loop).result()
        except BaseException:
            failed = True
            raise

    run()


async def _run(check: Awaitable[None]) -> None:
    await check
