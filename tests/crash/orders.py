"""What the fleet is asked for: media whose prompts no two share, with whatever trouble their provider makes."""

import asyncio
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import httpx2

from tests.crash.fleet import Fleet

TROUBLE: Final[Mapping[str, float]] = {
    "ok": 12,
    "slow": 2,
    "busy": 2,
    "accept_then_drop": 1,
    "accept_then_500": 1,
    "accept_then_silence": 1,
    "fail_late": 1,
}
"""Modes of the simulator, and how often each is asked for."""
ASK_AGAIN_SECONDS: Final = 0.1

MODELS: Final[Mapping[str, float]] = {"sim/image": 12, "blind/image": 6, "route/image": 2}
"""And how often each is."""

ASK: Final = "/media/generate"
RARELY: Final = 0.06

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
    """Unique: the simulator counts by it, and it is the request's Idempotency-Key."""
    model: str = "sim/image"
    input: Mapping[str, Any] = field(default_factory=dict)
    priority: int = 5
    deadline: float | None = None
    """Seconds it may take."""
    cancel_after: float | None = None
    """Seconds until its owner has changed his mind."""

    @property
    def request(self) -> dict[str, Any]:
        """Body and headers: the same each time it is asked for."""
        body = {
            "prompt": self.prompt,
            "model": self.model,
            "input": dict(self.input),
            "priority": self.priority,
            "deadline_seconds": self.deadline,
            "metadata": {"is_canceled": self.cancel_after is not None},
        }
        return {"json": body, "headers": {"Idempotency-Key": self.prompt}}


def mixed(prompt: str, chance: random.Random, *, longest: float = 3.0, rarely: float = RARELY) -> Order:
    """An order with trouble by chance; most of it at a provider that can be asked afterwards.

    Args:
        prompt: Nobody else's.
        chance: Decides.
        longest: Seconds until there is a result, at most.
        rarely: The share of orders that get a deadline, and of those that are canceled.
    """
    (mode,) = chance.choices(list(TROUBLE), list(TROUBLE.values()))
    (model,) = chance.choices(list(MODELS), list(MODELS.values()))
    given = {
        "mode": mode,
        "delay": round(chance.uniform(0, longest), 2),
        # Up to half a second longer than the adapter waits: the purchase comes after its caller has gone.
        "accept_after": round(chance.uniform(0.5, 2.5), 2),
        "findable": chance.random() < 0.9,
        "stoppable": chance.random() < 0.5,
        "size": chance.choice([2_000, 60_000, 200_000]),
    }
    return Order(
        prompt,
        model,
        given,
        priority=chance.randrange(10),
        deadline=round(chance.uniform(1, 6), 2) if chance.random() < rarely else None,
        cancel_after=round(chance.uniform(0, longest), 2) if chance.random() < rarely else None,
    )


def may_end(model: str, plan: Mapping[str, Any], *, has_deadline: bool, is_canceled: bool) -> set[End]:
    """How a media item may end when workers die at any moment: nothing that was lost is guessed."""
    ends: set[End] = {FAILED if plan["mode"] == "fail_late" else COMPLETED}
    if has_deadline:
        ends.add(DEADLINE)
    if is_canceled:
        ends.add(CANCELED)
    if model.startswith("sim/") and plan["findable"]:
        return ends
    # Whoever cannot ask never learns of a purchase whose answer was lost.
    never = {COMPLETED} if plan["mode"].startswith("accept_then_") else set[End]()
    return {*ends, HELD} - never


async def ask(fleet: Fleet, order: Order) -> dict[str, Any]:
    """Ask until there is an answer of 202; the media."""
    return await _insist(fleet, ASK, {202}, **order.request)


async def change_mind(fleet: Fleet, media_id: str) -> None:
    """Cancel until there is an answer; it may be too late."""
    await _insist(fleet, f"/media/{media_id}/cancel", {200, 202, 409})


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
