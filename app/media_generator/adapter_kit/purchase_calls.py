"""Free calls about one purchase, whose answers must be about it: polls, cancels, results.

On a kept connection an answer may belong to an earlier request (`app/core/http_client/connections.py`). So there it
counts only if it says what it is about. What says nothing, such as an error or an empty list, is asked for again on a
connection of its own, where nothing else can be answered.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from app.core.http_client.protocol import Answer, Http, Request
from app.media_generator.adapter_kit.http import ask
from app.media_generator.adapter_kit.lenient_json import members, parse
from app.media_generator.errors import NotReachedError, UnreadableAnswerError

Subject = Callable[[Answer], str | None]
"""The id of the purchase that an answer is about; None: it does not say."""


def member(name: str) -> Subject:
    """The text in one member of a JSON object."""

    def subject(answer: Answer) -> str | None:
        try:
            found: Any = members(parse(answer.body)).get(name)
        except UnreadableAnswerError:
            return None
        return found if isinstance(found, str) and found else None

    return subject


ID: Final = member("id")


async def ask_about(external_id: str, http: Http, request: Request, *, provider: str, subject: Subject = ID) -> Answer:
    """Make a call about one purchase; it costs nothing and may be made twice.

    Args:
        external_id: Of the purchase.
        http: The client.
        request: With `keep_alive` only if most answers say what they are about.
        provider: Its name, for messages.
        subject: Reads what an answer is about.

    Raises:
        NotReachedError: There is no answer, or it is about another purchase; the call may be repeated.
    """
    answer = await ask(http, request, provider=provider)
    about = subject(answer)
    if about is None and request.keep_alive:
        answer = await ask(http, replace(request, keep_alive=False), provider=provider)
        about = subject(answer)
    if about is None or about == external_id:
        return answer
    answer.drop_connection()
    raise NotReachedError(f"{provider} answered about another purchase, {about[:100]!r}")
