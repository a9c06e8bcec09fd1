"""The interface behind which every provider stands. Providers know nothing of databases, queues or buckets.

A provider's object is shared by thousands of jobs and lives as long as the process: it keeps no state of a job that
could not be lost. All about one purchase stands in its Reference, which is stored and may go to another process.
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import ClassVar, Self
from uuid import UUID

from app.media_generator import costs
from app.media_generator.accounts import ProviderSetup
from app.media_generator.callbacks import Callback, CallbackRefusedError, SentFile
from app.media_generator.errors import ProviderError
from app.media_generator.model_card import Json, ModelCard, defaults


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a provider can do; the engine asks for nothing else."""

    blocking: bool = False
    """`submit` answers with the result itself."""
    poll: bool = True
    """The outcome can be asked for."""
    webhook: bool = False
    """The provider can call back: `read_callback` understands it."""
    webhook_brings_answer: bool = False
    """The callback is the answer itself, unsigned, which cannot be asked for: `take_answer` keeps it."""
    cancel: bool = False
    """A purchase can be stopped."""
    cancel_stops_billing: bool = False
    """A stopped purchase costs nothing more."""
    idempotent_submit: bool = False
    """The same attempt id may be submitted twice and is bought once."""
    findable: bool = False
    """A purchase whose answer was lost can be looked up by its attempt id."""
    keeps_answers: bool = False
    """`find` knows answers that arrived here and were kept; None from it says nothing of others."""
    progress: bool = False
    """`poll` tells how far it is."""
    max_outputs: int = 1
    """The most outputs of one submission."""
    result_ttl: timedelta | None = None
    """How long outputs can be fetched; None: not limited."""
    reads_urls: bool = False
    """Input files can be given as `https:` URLs; it fetches them itself."""
    reads_inside: bool = False
    """It fetches them from inside the operator's network: those of callers are fetched for it, by a guarded client."""
    data_uri_bytes: int = 0
    """The largest input file, in bytes, that it takes as a `data:` URI; 0: none."""
    uploads: bool = False
    """Input files can be handed over through `upload`."""
    submit_timeout: timedelta = timedelta(seconds=60)
    """How long `submit` may take: it is cut off then, and only after that is `find` believed that there is none."""


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
    """As the schema says; input files as the capabilities allow: URL, data URI, or what `upload` answered."""
    callback_url: str | None = None
    """Where the provider may call back; None: nowhere."""
    time_left: timedelta | None = None
    """After which nobody waits for the result any more; None: not limited."""


@dataclass(frozen=True, slots=True)
class InputFile:
    """A file that a caller's input names, on its way to the provider."""

    media_type: str
    size: int
    """In bytes."""
    name: str
    """With its extension."""
    chunks: Callable[[], AsyncIterator[bytes]]
    """Reads it from the start, as often as it is called."""


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
    log: str | None = None
    """All that the provider has logged so far, or the end of it."""


@dataclass(frozen=True, slots=True)
class Succeeded:
    """Finished; the outputs can be fetched."""

    outputs: tuple[Output, ...]
    cost: Decimal | None = None
    """US dollars, as the provider reports it; None: it tells units at best."""
    units: Mapping[str, float] = field(default_factory=dict[str, float])
    """What it was billed by, by PriceUnit or the provider's own word: `{"second": 1.25}`."""
    log: str | None = None
    """All that the provider has logged, or the end of it."""
    cost_is_computed: bool = False
    """The adapter has worked `cost` out of what was billed and a list of prices."""


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

    name: str
    """First part of its models' names, `[a-z0-9-]+`: of the class, or of the account."""
    capabilities: ClassVar[Capabilities] = Capabilities()
    callback_base: str | None = None
    """The address of our API as this account's provider reaches it; None: CALLBACK_URL, which all have in common."""

    @classmethod
    def open_account(cls, setup: ProviderSetup) -> Self:  # noqa: ARG003 - what needs no settings
        """Make the provider for one account. Called once in every process, the API too: nothing is asked of it yet.

        Raises:
            SettingsError: A setting of the account is missing or invalid.
        """
        return cls()

    @abstractmethod
    def models(self) -> Sequence[ModelCard]:
        """The models on offer; cheap, called often."""

    def complete_input(self, model: str, given: Mapping[str, Json]) -> dict[str, Json]:
        """Fill in the schema's defaults in what fits it, so that what is stored says all that is bought.

        Override it to choose, say, a random seed.
        """
        card = next(card for card in self.models() if card.name == model)
        return {**defaults(card.input_schema), **given}

    def estimate(self, card: ModelCard, given: Mapping[str, Json]) -> Decimal | None:
        """What a complete input is expected to cost, in the price's currency; None: not known."""
        return costs.estimate(card, given)

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
        """Look up a purchase whose answer was lost; called only with a capability `findable` or `keeps_answers`.

        Args:
            submission: As it was submitted.
            since: When the intent was committed.

        Returns:
            The purchase, or None if the provider certainly has none.

        Raises:
            ProviderError: Nobody can say.
        """
        return None

    async def upload(self, file: InputFile) -> str:
        """Hand a file over; what stands for it in `Submission.input`. Called only with the capability `uploads`.

        Raises:
            ProviderError: It could not be handed over; nothing was bought.
        """
        raise NotImplementedError(file.name)

    async def callback_keys(self) -> Sequence[str]:
        """What signatures are checked with; asked for by workers now and then, handed to `read_callback`.

        Raises:
            ProviderError: The provider does not say now.
        """
        return ()

    def read_callback(self, callback: Callback, keys: Sequence[str]) -> Reference | None:  # noqa: ARG002 - likewise
        """The purchase that a callback tells of; None: it tells of none. Runs in the API and calls nobody.

        Raises:
            CallbackRefusedError: It does not come from the provider, or is not fresh.
        """
        raise CallbackRefusedError(f"{self.name} does not call back")

    async def take_answer(self, attempt_id: UUID, chunks: AsyncIterator[bytes]) -> Reference | None:
        """Keep an answer that came as a callback (`webhook_brings_answer`); None: it only says how far it is.

        Raises AnswerLostError where it is not whole, or cannot be stored now.
        """
        raise NotImplementedError(str(attempt_id))

    async def take_file(self, file: SentFile) -> str:  # noqa: ARG002 - likewise
        """Keep a file that comes before its answer; the last part of the URL by which the answer will name it.

        Raises CallbackRefusedError where its `key` does not fit, AnswerLostError where it cannot be stored now.
        """
        raise CallbackRefusedError(f"{self.name} is sent no files")

    async def refresh(self, card: ModelCard) -> ModelCard:
        """What the provider says of a model today; the card itself where it does not tell.

        Raises:
            ModelGoneError: It has it no longer.
            ProviderError: It does not say now.
        """
        return card

    async def settled(self, reference: Reference) -> None:  # noqa: ARG002 - likewise
        """This purchase is over, and all of it committed; let go of what was kept for it. May never be called."""
        return

    async def close(self) -> None:
        """Let go of connections and threads."""
        return
