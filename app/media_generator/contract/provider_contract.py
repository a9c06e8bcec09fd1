"""The rules for every provider, as tests: subclass `ProviderContract` and give it your provider.

    class TestAcme(ProviderContract):
        @pytest.fixture
        async def provider(self):
            provider = AcmeMediaGeneratorModel(base_url=...)
            yield provider
            await provider.close()

The tests call the provider as the engine does, so it needs a real or simulated server. Override `troubled` to make that
server fail, and the rules for failures are tested too.
"""

# ruff: noqa: S101 - these are tests; pytest explains its asserts

import asyncio
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, ClassVar

import jsonschema_rs
import msgspec

from app.core.file_types import HEAD_BYTES, describe
from app.core.ids import new_id
from app.media_generator.contract.odd_answer_contract import OddAnswerContract
from app.media_generator.errors import ProviderError, Sent
from app.media_generator.media_generator_model import (
    CancelAnswer,
    MediaGeneratorModel,
    Reference,
    Submission,
    Succeeded,
)
from app.media_generator.model_card import ModelCard
from app.media_generator.registry import Registry


class ProviderContract(OddAnswerContract):
    """Every rule for providers; each test uses the fixture `provider`."""

    prompt: ClassVar[str] = "a lighthouse at dawn"
    """The prompt of every submission."""

    def example(self, card: ModelCard) -> Mapping[str, Any]:
        """The input that a model is tested with; override it where the card's example is slow or expensive."""
        return card.example

    def refused(self) -> Submission | None:
        """A submission that the provider refuses; None: none can be constructed."""
        return None

    async def test_names_are_well_formed(self, provider: MediaGeneratorModel) -> None:
        """Names become parts of URLs and of other names."""
        assert re.fullmatch(r"[a-z0-9][a-z0-9-]*", provider.name)
        assert provider.models()
        for card in provider.models():
            assert re.fullmatch(r"[\w.:/-]+", card.name)
            assert card.title
            assert card.output_types

    async def test_schemas_are_valid_and_accept_their_example(self, provider: MediaGeneratorModel) -> None:
        """The API validates input against the schema, which must refuse unknown parameters."""
        for card in provider.models():
            jsonschema_rs.meta.validate(dict(card.input_schema))
            schema = jsonschema_rs.Draft202012Validator(dict(card.input_schema))
            assert schema.is_valid(dict(card.example))
            assert not schema.is_valid({"no such parameter of any model": 1})

    async def test_completed_input_is_valid_and_complete(self, provider: MediaGeneratorModel) -> None:
        """The stored input describes the purchase completely."""
        for card in provider.models():
            completed = provider.complete_input(card.name, self.example(card))
            assert jsonschema_rs.Draft202012Validator(dict(card.input_schema)).is_valid(completed)
            assert provider.complete_input(card.name, completed) == completed
            assert msgspec.json.decode(msgspec.json.encode(completed)) == completed

    async def test_every_model_delivers_its_output_types(self, provider: MediaGeneratorModel) -> None:
        """Submit, poll, open: the media types are those on the card."""
        for card in provider.models():
            reference = await provider.submit(self._submission(provider, card))
            outcome = await self._outcome(provider, reference)
            assert isinstance(outcome, Succeeded), outcome
            assert 1 <= len(outcome.outputs) <= provider.capabilities.max_outputs
            for output in outcome.outputs:
                head = b"".join([chunk async for chunk in provider.open(output)])[:HEAD_BYTES]
                assert describe(head, card.output_types).media_type in card.output_types

    async def test_reference_can_be_stored_and_used_again(self, provider: MediaGeneratorModel) -> None:
        """Another process continues with nothing but the stored reference."""
        card = provider.models()[0]
        reference = await provider.submit(self._submission(provider, card))
        assert reference.external_id
        stored = msgspec.json.decode(msgspec.json.encode(reference), type=Reference)

        assert isinstance(await self._outcome(provider, stored), Succeeded)

    async def test_outputs_can_be_opened_again(self, provider: MediaGeneratorModel) -> None:
        """A download that failed is repeated from the start."""
        card = provider.models()[0]
        outcome = await self._outcome(provider, await provider.submit(self._submission(provider, card)))
        assert isinstance(outcome, Succeeded)

        first = [b"".join([chunk async for chunk in provider.open(output)]) for output in outcome.outputs]
        again = [b"".join([chunk async for chunk in provider.open(output)]) for output in outcome.outputs]

        assert first == again

    async def test_concurrent_submissions_have_their_own_references(self, provider: MediaGeneratorModel) -> None:
        """Many jobs share the provider object."""
        card = provider.models()[0]
        submissions = [self._submission(provider, card) for _ in range(4)]

        references = await asyncio.gather(*(provider.submit(one) for one in submissions))

        assert len({reference.external_id for reference in references}) == len(references)

    async def test_find_returns_the_purchase(self, provider: MediaGeneratorModel) -> None:
        """With `findable` or `keeps_answers`, `find` needs only the submission."""
        can = provider.capabilities
        if not (can.findable or can.keeps_answers):
            return
        submission = self._submission(provider, provider.models()[0])
        started = datetime.now(UTC)
        submitted = await provider.submit(submission)

        found = await self._found(provider, submission, started)

        assert can.keeps_answers or found.external_id == submitted.external_id
        assert type(await self._outcome(provider, found)) is type(await self._outcome(provider, submitted))

    async def test_cancel_answer_agrees_with_the_outcome(self, provider: MediaGeneratorModel) -> None:
        """What was reported as canceled must not succeed."""
        if not provider.capabilities.cancel:
            return
        reference = await provider.submit(self._submission(provider, provider.models()[0]))

        answer = await provider.cancel(reference)

        outcome = await self._outcome(provider, reference)
        assert answer is not CancelAnswer.CANCELED or not isinstance(outcome, Succeeded)

    async def test_refusal_is_reported_as_not_sent(self, provider: MediaGeneratorModel) -> None:
        """Only Sent.NO may be retried, so a certain refusal must report it."""
        submission = self.refused()
        if submission is None:
            return
        try:
            await provider.submit(submission)
        except ProviderError as error:
            refusal = error
        else:
            raise AssertionError("the provider accepted what it was expected to refuse")
        assert refusal.sent is Sent.NO
        assert refusal.message

    async def test_registry_accepts_the_provider(self, provider: MediaGeneratorModel) -> None:
        """Every model can be requested by its full name."""
        registry = Registry([provider])

        assert [offer.card for offer in registry.offers()] == sorted(provider.models(), key=lambda card: card.name)

    def usual(self, provider: MediaGeneratorModel) -> Submission:
        """See the base class."""
        return self._submission(provider, provider.models()[0])

    def _submission(self, provider: MediaGeneratorModel, card: ModelCard) -> Submission:
        given = provider.complete_input(card.name, self.example(card))
        return Submission(new_id(), 1, card.name, self.prompt, given)
