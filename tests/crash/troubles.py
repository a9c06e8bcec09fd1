"""The troubles of a campaign, by name: each can be left out, so that what one breaks can be told from the rest."""

import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

TIME_SCALE: Final = 1 / 20
"""What the product and its providers call a minute lasts three seconds in a campaign; see `pace.py`."""
CLOCK_OFF: Final = 120.0
"""Seconds by which a provider's clock is off at most."""
LONG_WAIT: Final = 360.0
"""Seconds of Retry-After that no window of a look-up outlasts."""

SUBMITS: Final[Mapping[str, float]] = {
    "ok": 22,
    "busy": 2,
    "slow": 3,
    "accept_then_drop": 3,
    "accept_then_500": 1,
    "accept_then_silence": 1,
    "fail_late": 2,
    "accept_then_503": 3,
    "accept_then_garbage": 2,
    "not_accepted_503": 1,
    "not_accepted_drop": 3,
    "long_wait": 2,
}
"""How a submission is treated, and how often each is drawn; the first seven are the everyday troubles."""
EVERYDAY: Final = 7
OUTPUTS: Final = ("output_cut", "output_html", "output_drips")
"""How an output arrives the first time or two; afterwards it is whole."""
FILES: Final = ("file_cut", "file_unknown", "file_pdf", "file_svg", "file_trailing", "file_late_header")
"""What a result is; see `simulator/odd.py`."""
ODD: Final = ("odd_answer", "odd_urls")
"""How what is bought is told, where a real adapter reads it: JSON that no standard allows, and addresses of files."""
CALLBACKS: Final = ("callback_lost", "callback_twice", "callback_late", "callback_replayed", "callback_crossed")
"""The last two come at another attempt's address, too: as anybody might repeat them who has seen both ids, and with its
secret where the callback says for which attempt it is; or with the secret although nothing says so."""
ANSWERS: Final = ("answers_twice", "answers_garbage", "answers_503")
"""What may happen to any answer that costs nothing."""
OTHERS: Final = ("others_entries", "clock_off", "webhook_untold")
"""Of a provider's list: whose it also is, when, and that an entry does not tell the callback URL that it came with."""
ORDERS: Final = ("equal_inputs",)
WORKERS: Final = ("full_stdout", "closed_stdout", "stopped")
"""Not of the provider: of the process that does the work."""

BEYOND: Final = ("callback_crossed",)
"""What nobody can tell from the truth; part of a campaign only by its name."""
ALL: Final = (
    *list(SUBMITS)[EVERYDAY:],
    *OUTPUTS,
    *FILES,
    *ODD,
    *CALLBACKS[:4],
    *ANSWERS,
    *OTHERS,
    *ORDERS,
    *WORKERS,
)

OUTPUT_SHARE: Final = 0.25
FILE_SHARE: Final = 0.3
ODD_SHARE: Final = 0.5
CALLBACK_SHARE: Final = 0.6
ANSWER_SHARE: Final = 0.2
OTHERS_SHARE: Final = 0.3
OFTEN: Final = 8
UNTOLD_SHARE: Final = 0.6
"""How often each of these groups is drawn."""


@dataclass(frozen=True)
class Fate:
    """What becomes of one submission."""

    mode: str
    delay: float
    """Seconds until there is a result."""
    accept_after: float
    size: int
    """Bytes of its picture."""
    output: str = ""
    """One of OUTPUTS; empty: it arrives whole."""
    output_times: int = 1
    """How often it does not."""
    file: str = ""
    """One of FILES; empty: a picture."""
    odd: int = -1
    """Which of the odd forms its answers have; -1: none."""
    odd_urls: int = 0
    """Which form the addresses of its files have; 0: they are plain."""
    callback: str = ""
    """One of CALLBACKS; empty: it comes once and at once."""
    tells_webhook: bool = True
    """Whether it tells the callback URL with which it was bought, where its provider does such a thing."""

    @classmethod
    def planned(cls, plan: Mapping[str, Any]) -> "Fate":
        """As the input of an order says."""
        names = ("mode", "delay", "accept_after", "size", "output", "output_times", "file")
        return cls(**{name: plan[name] for name in names})


@dataclass
class Draw:
    """Draws from those troubles that are wanted; counts what it has drawn."""

    wanted: frozenset[str]
    seed: str
    longest: float = 3.0
    """Seconds until there is a result, at most."""
    often: frozenset[str] = frozenset()
    """Those of SUBMITS that are drawn OFTEN times as often."""
    drawn: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._chance = random.Random(self.seed)

    def among(self, names: Sequence[str], share: float) -> str:
        """One of these if it is wanted; empty: none."""
        wanted = [name for name in names if name in self.wanted]
        # Drawn in any case, so that a seed gives the same with more and with fewer troubles as far as it can.
        happens, which = self._chance.random() < share, self._chance.random()
        return self._count(wanted[int(which * len(wanted))]) if happens and wanted else ""

    def mode(self) -> str:
        """How a submission is treated."""
        modes = {
            name: weight * (OFTEN if name in self.often else 1)
            for name, weight in SUBMITS.items()
            if name not in ALL or name in self.wanted
        }
        return self._count(self._chance.choices(list(modes), list(modes.values()))[0])

    def fate(self) -> Fate:
        """What becomes of the next submission."""
        return Fate(
            self.mode(),
            delay=round(self._chance.uniform(0, self.longest), 2),
            # Up to half a second longer than the adapter waits: the purchase comes after its caller has gone.
            accept_after=round(self._chance.uniform(0.5, 2.5), 2),
            size=self._chance.choice([2_000, 60_000, 200_000]),
            output=self.among(OUTPUTS, OUTPUT_SHARE),
            output_times=self._chance.randint(1, 2),
            callback=self.among(CALLBACKS, CALLBACK_SHARE),
            tells_webhook=not self.among(("webhook_untold",), UNTOLD_SHARE),
            file=self.among(FILES, FILE_SHARE),
            odd=self._chance.randrange(1_000) if self.among(("odd_answer",), ODD_SHARE) else -1,
            odd_urls=self._chance.randrange(1_000) if self.among(("odd_urls",), ODD_SHARE) else 0,
        )

    def uniform(self, least: float, most: float) -> float:
        return self._chance.uniform(least, most)

    def choice(self, among: Sequence[Any]) -> Any:
        return self._chance.choice(among)

    def clock_offset(self) -> float:
        """Seconds that a provider's clock is ahead, in the time of a campaign."""
        most = CLOCK_OFF * TIME_SCALE
        off = random.Random(f"clock of {self.seed}")
        return off.choice([-1, 1]) * off.uniform(most / 2, most) if "clock_off" in self.wanted else 0.0

    def _count(self, name: str) -> str:
        self.drawn[name] += 1
        return name


def chosen(only: Iterable[str], without: Iterable[str]) -> frozenset[str]:
    """The troubles of a campaign.

    Raises:
        ValueError: There is no such trouble.
    """
    only, without = list(only), list(without)
    unknown = {*only, *without} - {*ALL, *BEYOND}
    if unknown:
        raise ValueError(f"no such trouble: {', '.join(sorted(unknown))}; there are: {', '.join(ALL)}")
    return frozenset(only or ALL) - frozenset(without)
