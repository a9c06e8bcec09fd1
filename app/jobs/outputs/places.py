"""Places for copies: how many outputs a process copies at the same time, and who gets the next place.

Whoever holds places gets another one only while it holds fewer than `ratio` times as many as are free. With the ratio 2
one party has two thirds of them at most, two have four fifths together, and somebody else always finds a free one.
Copies end after a while (`pace.py`), so a place is never held for good.
"""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Hashable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count


@dataclass(frozen=True, slots=True)
class Party:
    """One that shares the places with others."""

    name: Hashable
    ratio: int = 2
    """How many places it may hold for each free one."""


Parties = tuple[Party, ...]
Ticket = tuple[int, "asyncio.Future[None]"]
"""The number of one who waits, and what ends the waiting."""


class FairPlaces:
    """A number of places, shared by parties."""

    def __init__(self, number: int) -> None:
        self._free = number
        self._held = Counter[Party]()
        self._waiting = dict[Parties, deque[Ticket]]()
        self._numbers = count()

    @asynccontextmanager
    async def place(
        self, *parties: Party, on_wait: Callable[[], Awaitable[None]] | None = None
    ) -> AsyncGenerator[None]:
        """Hold a place for these parties, such as a provider's account and an owner; waits until it is their turn.

        Args:
            *parties: Who holds it.
            on_wait: Called if no place is free at once.
        """
        ticket = (next(self._numbers), asyncio.get_running_loop().create_future())
        self._waiting.setdefault(parties, deque()).append(ticket)
        try:
            self._admit()
            if on_wait is not None and not ticket[1].done():
                await on_wait()
            await ticket[1]
            yield
        finally:
            if ticket[1].cancelled() or not ticket[1].done():
                self._withdraw(parties, ticket)
            else:
                self._free += 1
                self._held.subtract(parties)
                # Parties without a place are forgotten.
                self._held = +self._held
            self._admit()

    def _withdraw(self, parties: Parties, ticket: Ticket) -> None:
        tickets = self._waiting[parties]
        tickets.remove(ticket)
        if not tickets:
            del self._waiting[parties]

    def _admit(self) -> None:
        """Admit those who may enter: first whoever holds the fewest places, then whoever has waited longest."""
        while self._free > 0:
            shares = {one: max(self._held[party] / party.ratio for party in one) for one in self._waiting}
            # Whoever is cancelled withdraws by itself.
            able = [
                one for one, share in shares.items() if share < self._free and not self._waiting[one][0][1].cancelled()
            ]
            if not able:
                return
            chosen = min(able, key=lambda one: (shares[one], self._waiting[one][0][0]))
            ticket = self._waiting[chosen][0]
            self._withdraw(chosen, ticket)
            self._free -= 1
            self._held.update(chosen)
            ticket[1].set_result(None)
