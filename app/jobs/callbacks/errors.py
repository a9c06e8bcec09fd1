"""Errors of a provider's callback."""

from app.core.errors import FleekError, NotFoundError, UnavailableError


class ProviderNotFoundError(NotFoundError):
    """There is no such provider, or it never calls back."""

    code = "provider_not_found"
    title = "No such provider"


class CallbackRefusedInRequestError(FleekError):
    """A callback does not come from the provider, or is not fresh."""

    status = 401
    code = "callback_refused"
    title = "Callback refused"


class AnswerNotKeptError(UnavailableError):
    """An answer that came as a callback is not stored; the provider is to call again."""

    code = "answer_not_kept"
    title = "Answer not kept"
