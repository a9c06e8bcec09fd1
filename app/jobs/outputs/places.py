"""Places for copies: how many outputs a process copies at the same time, and who gets the next place.

Whoever holds places gets another one only while it holds fewer than `ratio` times as many as are free. With the ratio 2
one party has two thirds of them at most, two have four fifths together, and somebody else always finds a free one.
Copies end after a while (`pace.py`), so a place is never held for good.
"""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncGenerator, Hashable
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
    async def place(self, *parties: Party) -> AsyncGenerator[None]:
        """Hold a place for these parties, such as a provider's account and an owner; waits until it is their turn."""
        await self._enter(parties)
        try:
            yield
        finally:
            self._leave(parties)

    async def _enter(self, parties: Parties) -> None:
        # Whoever may enter waits behind nobody: those of the same parties would have been admitted before.
        if self._may_enter(parties):
            self._take(parties)
            return
        ticket = (next(self._numbers), asyncio.get_running_loop().create_future())
        self._waiting.setdefault(parties, deque()).append(ticket)
        try:
            await ticket[1]
        except asyncio.CancelledError:
            if ticket[1].cancelled():
                if ticket in self._waiting.get(parties, ()):
                    self._withdraw(parties, ticket)
            else:
                # It was admitted and cancelled at the same time.
                self._leave(parties)
            raise

    def _may_enter(self, parties: Parties) -> bool:
        return self._free > 0 and all(self._held[party] < party.ratio * self._free for party in parties)

    def _take(self, parties: Parties) -> None:
        self._free -= 1
        self._held.update(parties)

    def _leave(self, parties: Parties) -> None:
        self._free += 1
        self._held.subtract(parties)
        # Parties without a place are forgotten.
        self._held = +self._held
        self._admit()

    def _withdraw(self, parties: Parties, ticket: Ticket) -> None:
        self._waiting[parties].remove(ticket)
        if not self._waiting[parties]:
            del self._waiting[parties]

    def _admit(self) -> None:
        """Admit those who may enter: first whoever holds the fewest places, then whoever has waited longest."""
        while able := [parties for parties in self._waiting if self._may_enter(parties)]:
            chosen = min(able, key=lambda one: (max(self._held[party] for party in one), self._waiting[one][0][0]))
            ticket = self._waiting[chosen][0]
            self._withdraw(chosen, ticket)
            if not ticket[1].cancelled():
                self._take(chosen)
                ticket[1].set_result(None)
