"""What breaks the promise, judged by what the providers know: nothing here asks the system under test.

- lost: accepted (answered with 202), and not in the database;
- stuck: in the database, and not final when the patience was over;
- bought twice: paid for again, although what was bought before had neither failed nor been canceled;
- wrong file: a file whose bytes were not made for an attempt of this media;
- wrong purchase: an attempt that names what was bought for another, or by somebody else;
- booked as not sent: an attempt that is said to have cost nothing, and was bought;
- thrown away: the provider finished what was paid for, and the media ended without it although it could be had;
- unknown without need: the media ended as `outcome_unknown`, and the provider could have said what became of it;
- wrong end: whatever else no provider and no client has given a reason for;
- inconsistent: rows and objects that do not agree with each other.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import asyncpg
import msgspec

from tests.crash.troubles import CLOCK_OFF, TIME_SCALE

Row = asyncpg.Record
Purchase = Mapping[str, Any]

FINAL: Final = ("COMPLETED", "ERROR", "CANCELED")
KINDS: Final = (
    "lost",
    "stuck",
    "bought twice",
    "wrong file",
    "wrong purchase",
    "booked as not sent",
    "thrown away",
    "unknown without need",
    "wrong end",
    "inconsistent",
)
BEFORE: Final = timedelta(seconds=2 * CLOCK_OFF * TIME_SCALE)
AFTER: Final = timedelta(seconds=(2 * CLOCK_OFF + 120) * TIME_SCALE)
"""Around an attempt: what an equal purchase of that time is, nobody can tell who has only a list."""
LAST_LOOK: Final = timedelta(seconds=2)
"""Between the last look-up of a purchase and the commit of what was decided by it; what is learned then is too late."""
NEVER: Final = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Violation:
    """One breach of the promise, with what is needed to find out why."""

    kind: str
    media: str
    """Its id; empty: there is none."""
    prompt: str
    told: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.prompt} ({self.media or 'no media'}): {self.told}"

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass
class Found:
    """What there is: rows of ours, and the books of the providers."""

    media: Sequence[Row]
    attempts: Sequence[Row]
    purchases: Sequence[Purchase]
    """Also those of other people, whose `attempt_id` is None."""

    def __post_init__(self) -> None:
        self.media_by_id = {one["id"]: one for one in self.media}
        self.attempts_by_id = {one["id"]: one for one in self.attempts}
        self.purchases_by_id = {one["id"]: one for one in self.purchases}
        self.attempts_of: Mapping[str, list[Row]] = defaultdict(list)
        for attempt in self.attempts:
            self.attempts_of[attempt["media_id"]].append(attempt)
        self.bought_by = {one["attempt_id"]: one for one in self.purchases if one["attempt_id"]}
        self.purchases_of: Mapping[str, list[Purchase]] = defaultdict(list)
        for one in sorted(self.purchases, key=lambda one: one["bought_at"]):
            if (owner := self.owner(one)) is not None:
                self.purchases_of[owner["id"]].append(one)

    def owner(self, purchase: Purchase) -> Row | None:
        """The media for which something was bought: by its attempt, and otherwise by a prompt that no two share."""
        attempt = self.attempts_by_id.get(purchase["attempt_id"])
        if attempt is not None:
            return self.media_by_id.get(attempt["media_id"])
        if purchase["attempt_id"] is None:
            return None
        same = [one for one in self.media if one["prompt"] == purchase["media"]]
        return same[0] if len(same) == 1 else None


def violations(found: Found, accepted: Iterable[str]) -> list[Violation]:
    """All there are, in the order of KINDS."""
    all_of_them = [
        *(Violation("lost", id_, "?", "it was accepted") for id_ in sorted({*accepted} - {*found.media_by_id})),
        *_doubled(found),
        *_unaccounted(found),
    ]
    for media in found.media:
        all_of_them += [Violation(kind, media["id"], media["prompt"], told) for kind, told in _of(found, media)]
    return sorted(all_of_them, key=lambda one: KINDS.index(one.kind))


def end_of(media: Row) -> str:
    return f"{media['status']} {media['code']}" if media["code"] else media["status"]


def _of(found: Found, media: Row) -> Iterator[tuple[str, str]]:
    """What is wrong with one media item."""
    if media["status"] not in FINAL:
        yield "stuck", f"it is {end_of(media)}; {_named(found, media)}"
        return
    bought = found.purchases_of[media["id"]]
    causes = [
        *_bought_twice(bought),
        *_wrong_files(found, media),
        *_thrown_away(found, media, bought),
        *(told for attempt in found.attempts_of[media["id"]] for told in _wrong_attempt(found, attempt)),
    ]
    yield from causes
    if not causes:
        yield from _wrong_end(found, media, bought)
    succeeded = sum(one["status"] == "SUCCEEDED" for one in found.attempts_of[media["id"]])
    if succeeded != len(media["files"] or ()):
        yield "inconsistent", f"{succeeded} attempts succeeded, {len(media['files'] or ())} files"


def _bought_twice(bought: Sequence[Purchase]) -> Iterator[tuple[str, str]]:
    alive = [one for one in bought if one["state"] in {"running", "done"}]
    attempts = Counter(one["attempt_id"] for one in bought)
    if len(alive) > 1 or any(times > 1 for times in attempts.values()):
        yield "bought twice", ", then ".join(map(_bought, bought))


def _wrong_files(found: Found, media: Row) -> Iterator[tuple[str, str]]:
    own = {one["sha256"] for one in found.purchases_of[media["id"]]}
    for sha256 in media["files"] or ():
        if sha256 not in own:
            maker = next((one for one in found.purchases if one["sha256"] == sha256), None)
            whose = "that nobody made" if maker is None else f"of {_bought(maker)}"
            yield "wrong file", f"it has the bytes {sha256[:12]} {whose}; {_named(found, media)}"


def _thrown_away(found: Found, media: Row, bought: Sequence[Purchase]) -> Iterator[tuple[str, str]]:
    attempts = found.attempts_of[media["id"]]
    if any(one["status"] == "SUBMITTED" for one in attempts):
        yield "thrown away", f"what was paid for is not fetched; {_named(found, media)}"
        return
    if media["files"] or media["status"] == "CANCELED":
        return
    for one in bought:
        attempt = found.attempts_by_id.get(one["attempt_id"])
        if one["state"] != "done" or (attempt is not None and silence(found, attempt, NEVER)):
            continue
        yield "thrown away", f"{_bought(one)} is done, and the media is {end_of(media)}: {media['message']}"


def _wrong_end(found: Found, media: Row, bought: Sequence[Purchase]) -> Iterator[tuple[str, str]]:
    code = media["code"]
    if media["status"] == "COMPLETED":
        if len(media["files"] or ()) != 1:
            yield "inconsistent", f"it is COMPLETED with files {media['files']}"
        return
    if media["status"] == "CANCELED":
        if not media["is_canceled"]:
            yield "wrong end", "it is CANCELED, and nobody wanted that"
        return
    if code == "outcome_unknown":
        if not why_unknown(found, media):
            yield "unknown without need", f"{_named(found, media)}; {media['message']}"
        return
    reasons = {
        "deadline_exceeded": media["has_deadline"],
        "generation_failed": any(one["state"] == "failed" for one in bought),
    }
    if not reasons.get(code):
        yield "wrong end", f"it is {end_of(media)}: {media['message']}; {_named(found, media)}"


def why_unknown(found: Found, media: Row) -> str:
    """Why nobody could say what became of the last attempt of a media item; empty: somebody could."""
    last = max(found.attempts_of[media["id"]], key=lambda one: one["number"], default=None)
    if last is None:
        return ""
    # What was settled after the media had ended, by its aftercare, was not known when it was decided.
    return silence(found, last, min(last["finished_at"] or NEVER, media["ended_at"] or NEVER))


def _wrong_attempt(found: Found, attempt: Row) -> Iterator[tuple[str, str]]:
    bought, named = found.bought_by.get(attempt["id"]), attempt["external_id"]
    which = f"attempt {attempt['number']} ({attempt['id']})"
    if named is not None and named not in found.purchases_by_id:
        yield "wrong purchase", f"{which} names {named}, which no provider knows"
    elif named is not None and found.purchases_by_id[named]["attempt_id"] != attempt["id"]:
        yield "wrong purchase", f"{which} names {_bought(found.purchases_by_id[named])}"
    if bought is not None and attempt["sent"] == "NO":
        yield "booked as not sent", f"{which} is said to have cost nothing, and is {_bought(bought)}"


def _doubled(found: Found) -> list[Violation]:
    times = Counter(one["key"] for one in found.media if one["key"])
    return [Violation("bought twice", "", key, f"asked for once, and {n} media") for key, n in times.items() if n > 1]


def _unaccounted(found: Found) -> list[Violation]:
    """Purchases that our attempts do not tell of."""
    return [
        Violation(
            "inconsistent", "", one["media"], f"{_bought(one)} was bought for an attempt that is not written down"
        )
        for one in found.purchases
        if one["attempt_id"] and one["attempt_id"] not in found.attempts_by_id
    ]


def silence(found: Found, attempt: Row, at: datetime) -> str:
    """Why an attempt's provider could not say at that time what became of it; empty: it could.

    Args:
        found: Everything.
        attempt: Whose answer was lost.
        at: When somebody asked for the last time.
    """
    provider = attempt["model"].partition("/")[0]
    if provider == "blind":
        return "blind: it cannot be asked"
    if provider == "sim":
        given = msgspec.json.decode(found.media_by_id[attempt["media_id"]]["input"])
        return "" if given.get("findable", True) else "sim: it answers that nobody can say"
    own = found.bought_by.get(attempt["id"])
    if own is not None and own["told_at"] is not None and datetime.fromtimestamp(own["told_at"], UTC) < at:
        return ""
    if provider == "fal":
        return "fal: it cannot be asked, and has not called back"
    return _silence_of_a_list(found, attempt, own, at)


def _silence_of_a_list(found: Found, attempt: Row, own: Purchase | None, at: datetime) -> str:
    """The same for a provider that has only a list of what was bought."""
    if own is not None and own["tells_webhook"]:
        return ""
    if own is not None and own["state"] in {"failed", "canceled"}:
        return "replicate: it has failed, and cannot be told from what failed for others"
    looked = at if at == NEVER else at - LAST_LOOK
    others = [one for one in found.purchases if one is not own and _may_be(found, attempt, one, looked)]
    rivals = [one for one in found.attempts if _is_rival(found, attempt, one, looked)]
    # What was not bought is only hidden by what looks like it; what was, also by those that may have bought it.
    return "replicate: equal inputs, not all of them accounted for" if others or (own and rivals) else ""


def _may_be(found: Found, attempt: Row, one: Purchase, at: datetime) -> bool:
    """Whether a purchase looks as if it were this attempt's, to somebody who has only the list."""
    if one["provider"] != attempt["model"].partition("/")[0] or one["source"] == "web":
        return False
    if one["tells_webhook"] and one["attempt_id"] != attempt["id"]:
        return False
    bought_at = datetime.fromtimestamp(one["bought_at"], UTC)
    if not attempt["created_at"] - BEFORE <= bought_at <= attempt["created_at"] + AFTER:
        return False
    if one["media"] != found.media_by_id[attempt["media_id"]]["prompt"]:
        return False
    owner = found.attempts_by_id.get(one["attempt_id"])
    # What another attempt is known to have bought is out of the question.
    settled = owner is not None and owner["id"] != attempt["id"] and owner["external_id"] == one["id"]
    return not (settled and (owner["submitted_at"] or NEVER) < at)


def _is_rival(found: Found, attempt: Row, other: Row, at: datetime) -> bool:
    """Whether another attempt with the same input may have bought what was found, as far as anybody knew."""
    if other["id"] == attempt["id"] or other["model"] != attempt["model"]:
        return False
    if abs(other["created_at"] - attempt["created_at"]) > BEFORE + AFTER:
        return False
    prompts = {found.media_by_id[one["media_id"]]["prompt"] for one in (attempt, other)}
    known_since = other["submitted_at"] or (other["finished_at"] if other["sent"] == "NO" else None)
    return len(prompts) == 1 and (known_since or NEVER) >= at


def _bought(one: Purchase) -> str:
    whose = f"for attempt {one['attempt_id']}" if one["attempt_id"] else "by somebody else"
    notes = " ".join(filter(None, (one["mode"], one["output"], one["callback"])))
    return f"{one['id']} [{notes}, {one['state']}] {whose} of {one['media']}"


def _named(found: Found, media: Row) -> str:
    """Its attempts, in short."""
    told: list[str] = []
    for one in found.attempts_of[media["id"]]:
        bought = found.bought_by.get(one["id"])
        truth = "not bought" if bought is None else f"bought as {bought['id']} [{bought['mode']}]"
        told.append(f"attempt {one['number']} {one['id']} at {one['model']} {one['status']}/{one['sent']}, {truth}")
    return "; ".join(told) or "it has no attempt"
