"""The interface behind which every provider stands. Providers know nothing of databases, queues or buckets.

A provider's object is shared by thousands of jobs and lives as long as the process: it keeps no state of a
job that could not be lost. Everything about one purchase stands in its Reference, which is stored and may be
handed to another process.
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any, ClassVar
from uuid import UUID

from app.media_generator.errors import ProviderError

Json = Any
"""A JSON value: dict, list, str, int, float, bool or None."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a provider can do; the engine asks for nothing else."""

    blocking: bool = False
    """`submit` answers with the result itself."""
    poll: bool = True
    """The outcome can be asked for."""
    webhook: bool = False
    """The provider can call back."""
    cancel: bool = False
    """A purchase can be stopped."""
    cancel_stops_billing: bool = False
    """A stopped purchase costs nothing more."""
    idempotent_submit: bool = False
    """The same attempt id may be submitted twice and is bought once."""
    findable: bool = False
    """A purchase whose answer was lost can be looked up by its attempt id."""
    progress: bool = False
    """`poll` tells how far it is."""
    max_outputs: int = 1
    """The most outputs of one submission."""
    result_ttl: timedelta | None = None
    """How long outputs can be fetched; None: not limited."""
    submit_timeout: timedelta = timedelta(seconds=60)
    """How long `submit` may take: it is cut off then, and only after that is `find` believed that there is none."""


@dataclass(frozen=True, slots=True)
class ModelCard:
    """A model that can be asked for."""

    name: str
    """Without the provider: `painter` of `dummy/painter`."""
    title: str
    description: str
    output_types: tuple[str, ...]
    """Media types of what it makes, such as `image/png`."""
    input_schema: Mapping[str, Json]
    """JSON Schema 2020-12 of `input`, an object that refuses unknown properties."""
    example: Mapping[str, Json]
    """An `input` that the schema accepts."""
    version: str | None = None
    local: bool = False
    """It computes on the worker's machine, so it takes one of the few local slots."""
    time_limit: timedelta | None = None
    """How long a media may take if its request does not say; None: as long as it takes."""
    price: Decimal | None = None
    """US dollars for one output; None: not known."""


@dataclass(frozen=True, slots=True)
class Submission:
    """One attempt, as the provider is asked for it."""

    attempt_id: UUID
    """New for each attempt: an idempotency key for providers that take one."""
    number: int
    """1 for the first try of this media."""
    model: str
    """Without the provider."""
    prompt: str
    input: Mapping[str, Json]


@dataclass(frozen=True, slots=True)
class Reference:
    """A purchase: enough to poll, cancel and fetch it from any process."""

    external_id: str
    """The provider's own name for it."""
    data: Mapping[str, Json] = field(default_factory=dict[str, Json])
    """Whatever else the adapter needs; serialisable as JSON."""


@dataclass(frozen=True, slots=True)
class Output:
    """One result, by reference; the engine copies the bytes through `open`."""

    location: str
    """A URL, or whatever the provider's `open` understands."""


@dataclass(frozen=True, slots=True)
class Running:
    """Not finished yet."""

    progress: float | None = None
    """0 to 1; None: not known."""
    wait: timedelta | None = None
    """When to ask again; None: the engine decides."""


@dataclass(frozen=True, slots=True)
class Succeeded:
    """Finished; the outputs can be fetched."""

    outputs: tuple[Output, ...]
    cost: Decimal | None = None
    """US dollars, as the provider reports it."""


@dataclass(frozen=True, slots=True)
class Failed:
    """Over without a result."""

    error: ProviderError


@dataclass(frozen=True, slots=True)
class Canceled:
    """Stopped before there was a result."""

    cost: Decimal | None = None
    """US dollars, as the provider reports it; None: not told."""


Outcome = Running | Succeeded | Failed | Canceled


class CancelAnswer(StrEnum):
    """What a provider says to a request to stop."""

    CANCELED = "canceled"
    REQUESTED = "requested"
    TOO_LATE = "too_late"


class MediaGeneratorModel(ABC):
    """One provider: `submit / poll / cancel / find` on a reference, and `open` for the bytes.

    Errors of other libraries end here: whatever a method raises is a ProviderError, or a defect.
    """

    name: ClassVar[str]
    """First part of its models' names, `[a-z0-9-]+`."""
    capabilities: ClassVar[Capabilities] = Capabilities()

    @abstractmethod
    def models(self) -> Sequence[ModelCard]:
        """The models on offer; cheap, called often."""

    def complete_input(self, model: str, given: Mapping[str, Json]) -> dict[str, Json]:
        """Fill in the schema's defaults, so that what is stored says all that is bought.

        `given` already fits the schema. Override it to choose, say, a random seed.
        """
        card = next(card for card in self.models() if card.name == model)
        properties: Mapping[str, Mapping[str, Json]] = card.input_schema.get("properties", {})
        defaults = {name: rule["default"] for name, rule in properties.items() if "default" in rule}
        return {**defaults, **given}

    @abstractmethod
    async def submit(self, submission: Submission) -> Reference:
        """Ask for one generation. The only call that spends money; the engine makes it once for each attempt.

        Raises:
            ProviderError: Its `sent` must be right: NO only if the provider cannot have taken it.
        """

    @abstractmethod
    async def poll(self, reference: Reference) -> Outcome:
        """Ask what became of a purchase; safe to repeat, from any process.

        Raises:
            NotReachedError, BusyError: Ask again later.
        """

    @abstractmethod
    def open(self, output: Output) -> AsyncIterator[bytes]:
        """The bytes of one output, chunk by chunk; safe to repeat while the provider keeps them.

        Raises:
            NotReachedError, BusyError: Fetch it again later.
            OutputError: It is gone for good.
        """

    async def cancel(self, reference: Reference) -> CancelAnswer:  # noqa: ARG002 - what most cannot do
        """Ask the provider to stop; called only with the capability `cancel`."""
        return CancelAnswer.TOO_LATE

    async def find(self, submission: Submission, since: datetime) -> Reference | None:  # noqa: ARG002 - likewise
        """Look up a purchase whose answer was lost; called only with the capability `findable`.

        Args:
            submission: As it was submitted.
            since: When the intent was committed.

        Returns:
            The purchase, or None if the provider certainly has none.

        Raises:
            ProviderError: Nobody can say.
        """
        return None

    async def close(self) -> None:
        """Let go of connections and threads."""
        return
