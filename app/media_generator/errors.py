"""What can go wrong at a provider, each saying whether the request may have cost money.

ProviderError
├── NotReachedError          NO       it never left us: connect, DNS, TLS; tried again
│   └── InputUnreachableError         a file of the input could not be fetched; tried again
├── BusyError                NO       429, 503, 529; tried again after `retry_after`
├── VoidError                NO       it took the request, lost it, and nothing was spent; tried again
├── RefusedError             NO       final
│   ├── InputRefusedError             the caller's input: 400, 413, 422
│   │   └── ContentRefusedError       moderation, before anything was made
│   ├── UnauthorizedError             the operator's key: 401, 403
│   ├── CreditError                   the provider's credit: 402
│   └── ModelGoneError                the model is gone: 404, 410
├── AnswerLostError          UNKNOWN  it left us and no answer came; never repeated by itself
│   └── ProviderDefectError           the adapter failed in a way it does not explain
├── GenerationFailedError    YES      the provider took it and failed later
│   ├── ContentStoppedError           moderation, after it was taken
│   └── SilentError                   the provider took it and never finished
└── OutputError              YES      the result cannot be had or is not what it should be
"""

from datetime import timedelta
from enum import StrEnum
from typing import ClassVar

from app.core.database.text import storable


class Sent(StrEnum):
    """Whether a request reached the provider, and so may have cost money."""

    NO = "NO"
    YES = "YES"
    UNKNOWN = "UNKNOWN"


class ProviderError(Exception):
    """A provider did not deliver."""

    code: ClassVar[str]
    """The stable name that stands in the media's `error`."""
    sent: ClassVar[Sent]
    """Whether it may have been paid."""
    retryable: ClassVar[bool] = False
    """Whether the engine tries again by itself; only ever true for Sent.NO."""

    def __init__(self, message: str, *, retry_after: timedelta | None = None) -> None:
        super().__init__(message)
        self.message: str = storable(message)
        """What happened, fit to be read by the media's owner."""
        self.retry_after = retry_after
        """The pause that the provider asked for."""


class NotReachedError(ProviderError):
    """The request never left us."""

    code = "provider_unreachable"
    sent = Sent.NO
    retryable = True


class InputUnreachableError(NotReachedError):
    """A file that the input names could not be fetched from where it lies, so nothing was bought."""

    code = "input_unreachable"


class BusyError(ProviderError):
    """The provider took nothing on: too many requests, or overloaded."""

    code = "provider_busy"
    sent = Sent.NO
    retryable = True


class VoidError(ProviderError):
    """The provider took the request and has lost it for certain, before there was a result, at nobody's cost.

    The one error that makes a purchase no purchase: `poll` may tell of it, where computing is on the operator's own
    machine.
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
    """The operator's key is missing, wrong or not allowed to do this."""

    code = "provider_unauthorized"


class CreditError(RefusedError):
    """The operator's credit at the provider is used up."""

    code = "provider_credit"


class ModelGoneError(RefusedError):
    """The provider no longer has this model."""

    code = "model_gone"


class AnswerLostError(ProviderError):
    """The request left us and no answer came: it may have been paid."""

    code = "outcome_unknown"
    sent = Sent.UNKNOWN


class ProviderDefectError(AnswerLostError):
    """The provider's adapter raised something else than a ProviderError: a defect in it."""

    code = "provider_defect"


class GenerationFailedError(ProviderError):
    """The provider took the request and reported a failure later."""

    code = "generation_failed"
    sent = Sent.YES


class ContentStoppedError(GenerationFailedError):
    """The provider's moderation stopped it after it was taken; some providers bill that."""

    code = "content_refused"


class SilentError(GenerationFailedError):
    """The provider took the request and never finished."""

    code = "provider_silent"


class OutputError(ProviderError):
    """The provider's result is gone, broken, too large or of a type we do not take."""

    code = "output_invalid"
    sent = Sent.YES
