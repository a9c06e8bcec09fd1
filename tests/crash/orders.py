"""What the fleet is asked for: media with whatever trouble their provider makes, some of them equal to others."""

import asyncio
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import httpx2

from tests.crash.fleet import Fleet
from tests.crash.troubles import OUTPUT_SHARE, OUTPUTS, Draw

ASK_AGAIN_SECONDS: Final = 0.1

LISTED: Final = "replicate/black-forest-labs/flux-schnell"
OWN_MODELS: Final[Mapping[str, float]] = {"sim/image": 12, "blind/image": 6, "route/image": 2}
"""How often each is asked for."""
ALL_MODELS: Final[Mapping[str, float]] = {**OWN_MODELS, LISTED: 18, "route/listed": 4, "fal/fal-ai/flux/schnell": 6}
"""Those of a campaign: most orders go to the product's own adapters, above all of a provider that finds by its list."""

ASK: Final = "/media/generate"
RARELY: Final = 0.06
RETRIED_SHARE: Final = 0.5
"""Of orders, should they fail."""

End = tuple[str, str | None]
"""A final status, and the code of its error."""
COMPLETED: Final[End] = ("COMPLETED", None)
FAILED: Final[End] = ("ERROR", "generation_failed")
HELD: Final[End] = ("ERROR", "outcome_unknown")
DEADLINE: Final[End] = ("ERROR", "deadline_exceeded")
CANCELED: Final[End] = ("CANCELED", None)


@dataclass(frozen=True)
class Order:
    """One request."""

    prompt: str
    model: str = "sim/image"
    input: Mapping[str, Any] = field(default_factory=dict)
    priority: int = 5
    deadline: float | None = None
    """Seconds it may take."""
    cancel_after: float | None = None
    """Seconds until its owner has changed his mind."""
    retries: bool = False
    """Its owner asks again if the provider reports that it failed."""
    key: str = ""
    """Unique: the request's Idempotency-Key; empty: the prompt, which then is."""

    @property
    def request(self) -> dict[str, Any]:
        """Body and headers: the same each time it is asked for."""
        body = {
            "prompt": self.prompt,
            "model": self.model,
            "input": dict(self.input),
            "priority": self.priority,
            "deadline_seconds": self.deadline,
            "metadata": {"is_canceled": self.cancel_after is not None, "key": self.key or self.prompt},
        }
        return {"json": body, "headers": {"Idempotency-Key": self.key or self.prompt}}


def mixed(
    prompt: str,
    chance: random.Random,
    *,
    longest: float = 3.0,
    rarely: float = RARELY,
    models: Mapping[str, float] = OWN_MODELS,
    troubles: frozenset[str] = frozenset(),
) -> Order:
    """An order with trouble by chance; most of it at a provider that can be asked afterwards.

    Args:
        prompt: Nobody else's.
        chance: Decides.
        longest: Seconds until there is a result, at most.
        rarely: The share of orders that get a deadline, and of those that are canceled.
        models: And how often each is asked for.
        troubles: Those that may happen beside the everyday ones.
    """
    (model,) = chance.choices(list(models), list(models.values()))
    draw = Draw(troubles, str(chance.random()), longest)
    fate = draw.fate()
    given = {
        "mode": fate.mode,
        "delay": fate.delay,
        "accept_after": fate.accept_after,
        "findable": chance.random() < 0.9,
        "stoppable": chance.random() < 0.5,
        "size": fate.size,
        "output": draw.among(OUTPUTS, OUTPUT_SHARE),
        "output_times": fate.output_times,
        "file": fate.file,
    }
    return Order(
        prompt,
        model,
        # The input of a real model has no place for what its provider is to do: that is drawn there.
        given if model in OWN_MODELS else {},
        priority=chance.randrange(10),
        deadline=round(chance.uniform(1, 6), 2) if chance.random() < rarely else None,
        cancel_after=round(chance.uniform(0, longest), 2) if chance.random() < rarely else None,
        retries=chance.random() < RETRIED_SHARE,
    )


async def ask(fleet: Fleet, order: Order) -> dict[str, Any]:
    """Ask until there is an answer of 202; the media."""
    return await _insist(fleet, ASK, {202}, **order.request)


async def change_mind(fleet: Fleet, media_id: str) -> None:
    """Cancel until there is an answer; it may be too late."""
    await _insist(fleet, f"/media/{media_id}/cancel", {200, 202, 409})


async def retry(fleet: Fleet, media_id: str) -> None:
    """Ask once more for what has failed."""
    await _insist(fleet, f"/media/{media_id}/retry", {200, 202, 409})


async def _insist(fleet: Fleet, path: str, good: set[int], **request: Any) -> dict[str, Any]:
    while True:
        try:
            answer = await fleet.web.post(path, **request)
        except httpx2.TransportError:
            await asyncio.sleep(ASK_AGAIN_SECONDS)
            continue
        if answer.status_code in good:
            return answer.json()
        assert answer.status_code == 503, answer.text
        await asyncio.sleep(ASK_AGAIN_SECONDS)
