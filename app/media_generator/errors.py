"""Errors of providers; each states whether the request may have cost money.

ProviderError
├── NotReachedError          NO       it was never sent: connect, DNS, TLS; retried
│   └── InputUnreachableError         a file of the input could not be fetched; retried
├── BusyError                NO       429; retried after `retry_after`
├── VoidError                NO       it accepted the request, lost it, and nothing was billed; retried
├── RefusedError             NO       final
│   ├── InputRefusedError             the caller's input: 400, 413, 415, 422
│   │   └── ContentRefusedError       moderation, before anything was generated
│   ├── UnauthorizedError             the operator's key: 401, 403
│   ├── CreditError                   the provider's credit: 402
│   └── ModelGoneError                the model no longer exists: 404
├── AnswerLostError          UNKNOWN  no answer came, or one that proves nothing; never repeated automatically
│   ├── AnswerPendingError            the provider is still working on it
│   ├── UnreadableAnswerError         it answered, and what it said cannot be read; after some polls it is final
│   └── ProviderDefectError           the adapter raised an unexpected error
├── GenerationFailedError    YES      the provider accepted it and failed later
│   ├── ContentStoppedError           moderation, after it was accepted
│   └── SilentError                   the provider accepted it and never finished
└── OutputError              YES      the result cannot be used; the owner's retry fetches it again
    ├── SuspectOutputError            what arrived may not be what the provider has; it is fetched again by itself
    │   ├── MissingOutputError        not found, or not allowed
    │   └── UnconfirmedOutputError    nothing proves that it is whole; accepted if it comes again
    └── OutputGoneError               the provider no longer has it; the owner's retry buys a new one
"""

from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar

from app.core.database.text import storable
from app.core.redaction import redacted

if TYPE_CHECKING:
    from app.media_generator.raw_answers import RawAnswer


class Sent(StrEnum):
    """Whether a request reached the provider, and so may have cost money."""

    NO = "NO"
    YES = "YES"
    UNKNOWN = "UNKNOWN"


class ProviderError(Exception):
    """A call to a provider failed."""

    code: ClassVar[str]
    """The stable code in the media's `error`."""
    sent: ClassVar[Sent]
    """Whether the request may have been billed."""
    retryable: ClassVar[bool] = False
    """Whether the engine retries automatically; only ever true for Sent.NO."""

    def __init__(self, message: str, *, retry_after: timedelta | None = None) -> None:
        # Providers repeat what they were sent, our key included.
        self.message: str = redacted(storable(message))
        """What happened; shown to the media's owner."""
        super().__init__(self.message)
        self.retry_after = retry_after
        """The wait that the provider requested."""
        self.answer: RawAnswer | None = None
        """What the provider answered, as it came; set by the engine. None: nothing came through its HTTP client."""


class NotReachedError(ProviderError):
    """The request was never sent."""

    code = "provider_unreachable"
    sent = Sent.NO
    retryable = True


class InputUnreachableError(NotReachedError):
    """A file that the input names could not be fetched, so nothing was submitted."""

    code = "input_unreachable"


class BusyError(ProviderError):
    """The provider did not accept the request: too many requests, or overloaded."""

    code = "provider_busy"
    sent = Sent.NO
    retryable = True


class VoidError(ProviderError):
    """The provider accepted the request and has certainly lost it before there was a result, at no cost.

    The only error that voids a purchase. `poll` may return it where the computation runs on the operator's own machine.
    """

    code = "purchase_void"
    sent = Sent.NO
    retryable = True


class RefusedError(ProviderError):
    """The provider refused; the same request would be refused again."""

    code = "provider_refused"
    sent = Sent.NO


class InputRefusedError(RefusedError):
    """The provider refused the caller's input."""

    code = "input_refused"


class ContentRefusedError(InputRefusedError):
    """The provider's moderation refused prompt or input files."""

    code = "content_refused"


class UnauthorizedError(RefusedError):
    """The operator's key is missing, wrong or lacks the permission."""

    code = "provider_unauthorized"


class CreditError(RefusedError):
    """The operator's credit at the provider is exhausted."""

    code = "provider_credit"


class ModelGoneError(RefusedError):
    """The provider no longer has this model."""

    code = "model_gone"


class AnswerLostError(ProviderError):
    """The request was sent and no answer came, or one that does not prove that nothing was billed."""

    code = "outcome_unknown"
    sent = Sent.UNKNOWN


class AnswerPendingError(AnswerLostError):
    """The provider is still working on it, and returns the answer when the same attempt is submitted again later."""


class UnreadableAnswerError(AnswerLostError):
    """The provider answered, and its answer cannot be read or lacks what is needed; asking again may bring the same."""

    code = "answer_unreadable"


class ProviderDefectError(AnswerLostError):
    """The provider's adapter raised something other than a ProviderError: a bug in the adapter."""

    code = "provider_defect"


class GenerationFailedError(ProviderError):
    """The provider accepted the request and reported a failure later."""

    code = "generation_failed"
    sent = Sent.YES


class ContentStoppedError(GenerationFailedError):
    """The provider's moderation stopped it after it was accepted; some providers bill that."""

    code = "content_refused"


class SilentError(GenerationFailedError):
    """The provider accepted the request and never finished."""

    code = "provider_silent"


class OutputError(ProviderError):
    """Nothing of what was bought could be had: it is empty, an error page, too large, or cannot be read."""

    code = "output_invalid"
    sent = Sent.YES


class SuspectOutputError(OutputError):
    """What arrived may not be what the provider has: cut off, or an error page. It is fetched again by itself."""


class MissingOutputError(SuspectOutputError):
    """The output was not found, or access was denied; stores of files answer that for a while after they wrote one."""

    code = "output_gone"


class UnconfirmedOutputError(SuspectOutputError):
    """It differs from what is usually its hash, or states no length; the same bytes again are accepted."""


class OutputGoneError(OutputError):
    """The provider no longer has the result."""

    code = "output_gone"
