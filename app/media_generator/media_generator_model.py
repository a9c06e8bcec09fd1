"""The interface of every provider. Providers have no access to databases, queues or buckets.

A provider object is shared by thousands of jobs and lives as long as the process: it must not hold state of a job that
cannot be lost. Everything about one purchase is in its Reference, which is stored and may be used by another process.
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
from app.media_generator.raw_answers import RawAnswer


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a provider supports; the engine uses nothing else."""

    blocking: bool = False
    """The answer to `submit` is the result itself."""
    poll: bool = True
    """The outcome can be polled."""
    webhook: bool = False
    """The provider sends callbacks, which `read_callback` verifies."""
    webhook_brings_answer: bool = False
    """The callback is the result itself, unsigned, and cannot be polled: `take_answer` stores it."""
    cancel: bool = False
    """A purchase can be canceled."""
    cancel_stops_billing: bool = False
    """A canceled purchase costs nothing more."""
    idempotent_submit: bool = False
    """The same attempt id may be submitted twice and is billed once."""
    findable: bool = False
    """A purchase whose answer was lost can be looked up by its attempt id."""
    keeps_answers: bool = False
    """`find` returns answers that arrived here and were stored; None does not mean that there was no purchase."""
    progress: bool = False
    """`poll` reports progress."""
    max_outputs: int = 1
    """Maximum number of outputs of one submission."""
    result_ttl: timedelta | None = None
    """How long outputs can be fetched; None: no limit."""
    reads_urls: bool = False
    """Input files can be passed as `https:` URLs; the provider fetches them itself."""
    reads_inside: bool = False
    """It fetches them from inside the operator's network; callers' URLs are downloaded for it by a guarded client."""
    data_uri_bytes: int = 0
    """The largest input file, in bytes, that can be passed as a `data:` URI; 0: none."""
    uploads: bool = False
    """Input files can be uploaded through `upload`."""
    submit_timeout: timedelta = timedelta(seconds=60)
    """Time limit of `submit`; None from `find` proves that there is no purchase only after it has passed."""


@dataclass(frozen=True, slots=True)
class Submission:
    """One attempt, as submitted to the provider."""

    attempt_id: UUID
    """New for each attempt: an idempotency key for providers that take one."""
    number: int
    """1 for the first attempt of this media."""
    model: str
    """The model's name without the provider."""
    prompt: str
    input: Mapping[str, Json]
    """Valid by the schema; input files as the capabilities allow: URL, data URI, or what `upload` returned."""
    callback_url: str | None = None
    """Where the provider may call back; None: no callbacks."""
    time_left: timedelta | None = None
    """Time until the result is no longer wanted; None: no limit."""


@dataclass(frozen=True, slots=True)
class InputFile:
    """A file that a caller's input names, on its way to the provider."""

    media_type: str
    size: int
    """In bytes."""
    name: str
    """File name with extension."""
    chunks: Callable[[], AsyncIterator[bytes]]
    """Reads the file from the start on every call."""


@dataclass(frozen=True, slots=True)
class Reference:
    """A purchase: enough to poll, cancel and fetch it from any process."""

    external_id: str
    """The provider's id of the purchase, unique within the account: a purchase belongs to one attempt."""
    data: Mapping[str, Json] = field(default_factory=dict[str, Json])
    """Anything else the adapter needs; serialisable as JSON."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """What `find` knows where the provider stores no id of ours: purchases that may be the one looked for.

    The engine leaves out those that belong to other attempts. If exactly one is left in `alike`, and no other attempt
    can have made it, it is the purchase; if none is left, there is none; otherwise the outcome stays unknown.
    """

    alike: tuple[Reference, ...] = ()
    """Of the same model, input and time; neither failed nor canceled, and not ended before the attempt began."""
    doubtful: tuple[Reference, ...] = ()
    """It cannot be told whether they are the one: their input is hidden, or they failed or were canceled."""
    why: str = ""
    """Why `doubtful` cannot be told apart."""


@dataclass(frozen=True, slots=True)
class Output:
    """One result, by reference; the engine copies the bytes through `open`."""

    location: str
    """A URL, or any text that the provider's `open` understands."""


@dataclass(frozen=True, slots=True)
class Running:
    """Not finished yet."""

    progress: float | None = None
    """0 to 1; None: unknown."""
    wait: timedelta | None = None
    """When to poll again; None: the engine decides."""
    log: str | None = None
    """The provider's log so far, or the end of it."""
    not_reached: str | None = None
    """Why its state is not known now; set by the engine."""
    refused: bool = False
    """The provider refused to tell it; set by the engine."""
    unreadable: bool = False
    """It answered, and the answer cannot be read; set by the engine, which ends this after some polls."""
    answer: RawAnswer | None = field(default=None, repr=False, compare=False)
    """What it answered where its state is not known, as it came; set by the engine."""


@dataclass(frozen=True, slots=True)
class Succeeded:
    """Finished; the outputs can be fetched."""

    outputs: tuple[Output, ...]
    cost: Decimal | None = None
    """US dollars, as the provider reports it; None: not reported."""
    units: Mapping[str, float] = field(default_factory=dict[str, float])
    """Billed quantities, by PriceUnit or the provider's own unit: `{"second": 1.25}`."""
    log: str | None = None
    """The provider's log, or the end of it."""
    cost_is_computed: bool = False
    """The adapter has computed `cost` from billed units and a price list."""
    left_out: int = 0
    """Outputs that are not fetched, because there are too many; set by the engine."""
    answer: RawAnswer | None = field(default=None, repr=False, compare=False)
    """What the provider answered, as it came; set by the engine."""


@dataclass(frozen=True, slots=True)
class Failed:
    """Finished without a result."""

    error: ProviderError


@dataclass(frozen=True, slots=True)
class Canceled:
    """Canceled before there was a result."""

    cost: Decimal | None = None
    """US dollars, as the provider reports it; None: not reported."""


Outcome = Running | Succeeded | Failed | Canceled


class CancelAnswer(StrEnum):
    """A provider's answer to a cancel request."""

    CANCELED = "canceled"
    REQUESTED = "requested"
    TOO_LATE = "too_late"


class MediaGeneratorModel(ABC):
    """One provider: `submit / poll / cancel / find` on a reference, and `open` for the bytes.

    Methods translate errors of other libraries: anything they raise that is not a ProviderError is a bug.
    """

    name: str
    """First part of its models' names, `[a-z0-9-]+`: set by the class, or the account's name."""
    capabilities: ClassVar[Capabilities] = Capabilities()
    callback_base: str | None = None
    """Base URL at which this account's provider reaches our API; None: the shared CALLBACK_URL."""

    @classmethod
    def open_account(cls, setup: ProviderSetup) -> Self:  # noqa: ARG003 - for providers without settings
        """Create the provider for one account. Called once in every process, also in the API; it must make no calls.

        Raises:
            SettingsError: A setting of the account is missing or invalid.
        """
        return cls()

    @abstractmethod
    def models(self) -> Sequence[ModelCard]:
        """The models on offer; called often, so it must be cheap."""

    def complete_input(self, model: str, given: Mapping[str, Json]) -> dict[str, Json]:
        """Fill in the schema's defaults, so that the stored input describes the purchase completely.

        Override it to choose a random seed, for example.
        """
        card = next(card for card in self.models() if card.name == model)
        return {**defaults(card.input_schema), **given}

    def likeness(self, card: ModelCard, prompt: str, given: Mapping[str, Json]) -> Json:
        """What the provider sees of a request: equal where it cannot tell two apart. For `find` with `Candidates`.

        Override it where requests that differ here look alike there, such as two cards of one model.
        """
        return [card.name, prompt, dict(given)]

    def estimate(self, card: ModelCard, given: Mapping[str, Json]) -> Decimal | None:
        """The expected cost of a complete input, in the price's currency; None: unknown."""
        return costs.estimate(card, given)

    @abstractmethod
    async def submit(self, submission: Submission) -> Reference:
        """Request one generation. The only call that spends money; the engine makes it once for each attempt.

        Raises:
            ProviderError: Its `sent` must be correct: NO only if the provider cannot have accepted the request.
        """

    @abstractmethod
    async def poll(self, reference: Reference) -> Outcome:
        """The current state of a purchase; safe to repeat, from any process.

        Raises:
            NotReachedError, BusyError: Poll again later.
            UnreadableAnswerError: It answered, and the answer cannot be read; polled again, but not for ever.
        """

    @abstractmethod
    def open(self, output: Output) -> AsyncIterator[bytes]:
        """The bytes of one output, chunk by chunk; safe to repeat while the provider keeps them.

        Raises:
            NotReachedError, BusyError: Fetch it again later.
            SuspectOutputError: It is missing or damaged now; a second fetch may bring it.
            OutputError: It cannot be used; OutputGoneError: it is permanently gone.
        """

    async def cancel(self, reference: Reference) -> CancelAnswer:  # noqa: ARG002 - for providers without `cancel`
        """Cancel a purchase; called only with the capability `cancel`."""
        return CancelAnswer.TOO_LATE

    async def find(self, submission: Submission, since: datetime) -> Reference | Candidates | None:  # noqa: ARG002 - likewise
        """Look up a purchase whose answer was lost; called only with a capability `findable` or `keeps_answers`.

        Args:
            submission: As it was submitted.
            since: When the intent was committed, by the database's clock; the provider's may differ by minutes.

        Returns:
            The purchase, by an id of ours that the provider stores with it; or those that are like it, if it stores
            none; None if there certainly is none.

        Raises:
            ProviderError: It cannot be determined.
        """
        return None

    async def upload(self, file: InputFile) -> str:
        """Upload a file; return the value for `Submission.input`. Called only with the capability `uploads`.

        Raises:
            ProviderError: The upload failed; nothing was billed.
        """
        raise NotImplementedError(file.name)

    async def callback_keys(self) -> Sequence[str]:
        """The keys to verify signatures with; workers fetch them regularly and pass them to `read_callback`.

        Raises:
            ProviderError: They cannot be fetched at the moment.
        """
        return ()

    def read_callback(self, callback: Callback, keys: Sequence[str]) -> Reference | None:  # noqa: ARG002 - likewise
        """The purchase that a callback is about; None: it names none. Runs in the API and must make no calls.

        Raises:
            CallbackRefusedError: It does not come from the provider, or is too old.
        """
        raise CallbackRefusedError(f"{self.name} sends no callbacks")

    async def take_answer(self, attempt_id: UUID, chunks: AsyncIterator[bytes]) -> Reference | None:
        """Store a result that came as a callback (`webhook_brings_answer`); None: it only reports progress.

        Raises AnswerLostError where it is incomplete, or cannot be stored at the moment.
        """
        raise NotImplementedError(str(attempt_id))

    async def take_file(self, file: SentFile) -> str:  # noqa: ARG002 - likewise
        """Store a file that is sent before its answer; return the last part of the URL by which the answer names it.

        Raises CallbackRefusedError where its `key` is wrong, AnswerLostError where it cannot be stored at the moment.
        """
        raise CallbackRefusedError(f"{self.name} accepts no files")

    async def refresh(self, card: ModelCard) -> ModelCard:
        """The model's card with the provider's current data; the card unchanged where the provider publishes none.

        Raises:
            ModelGoneError: The provider no longer has the model.
            ProviderError: The data cannot be fetched at the moment.
        """
        return card

    async def settled(self, reference: Reference) -> None:  # noqa: ARG002 - likewise
        """The purchase is finished and committed: delete what was kept for it. A crash may prevent this call."""
        return

    async def close(self) -> None:
        """Close connections and threads."""
        return
