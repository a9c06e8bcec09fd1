"""Changes recorded answers as services do, at every position: what is there is dropped, null, of another type, huge.

`noises` are those that take nothing away: whatever reads the answer must come to the same result.
"""

import copy
import json
from collections.abc import Iterator
from typing import Any, Final

from hypothesis import strategies as st

Position = tuple[str | int, ...]
"""Keys and indexes from the outermost value to one within; empty: the outermost value itself."""

MOST_POSITIONS: Final = 120
"""Of one answer; more, such as those of a long list, are passed over."""
_DROPPED: Final = object()
_DEEP: Final = 5_000

VALUES: Final[tuple[Any, ...]] = (
    _DROPPED,
    None,
    True,
    -1,
    10**400,
    1.5,
    "",
    "x" * 20_000,
    "\ud83d a\x00b",
    "http://[",
    [],
    [None],
    {},
    {"url": None, "message": ["x"]},
)
"""What is put in the place of a value."""


def positions_of(value: Any) -> list[Position]:
    """Every position in a value, the outermost first."""
    found = list[Position]()
    for position in _positions(value, ()):
        if len(found) >= MOST_POSITIONS:
            break
        found.append(position)
    return found


def _positions(value: Any, here: Position) -> Iterator[Position]:
    yield here
    if isinstance(value, dict):
        for name, one in value.items():  # pyright: ignore[reportUnknownVariableType] - JSON
            yield from _positions(one, (*here, str(name)))  # pyright: ignore[reportUnknownArgumentType]
    elif isinstance(value, list):
        for index, one in enumerate(value):  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
            yield from _positions(one, (*here, index))


def mutated(value: Any, position: Position, new: Any) -> Any:
    """A copy with something else at a position; unchanged where that position is gone."""
    if not position:
        return None if new is _DROPPED else new
    changed = copy.deepcopy(value)
    *way, last = position
    place = changed
    try:
        for step in way:
            place = place[step]
        if new is _DROPPED:
            del place[last]
        else:
            place[last] = new
    except (KeyError, IndexError, TypeError):
        return value
    return changed


def mutations(value: Any) -> Iterator[tuple[str, bytes]]:
    """Every position with every one of VALUES; name and body of each."""
    for position in positions_of(value):
        for number, new in enumerate(VALUES):
            yield f"{'.'.join(map(str, position)) or 'all'}: {number}", written(mutated(value, position, new))


def noises(body: bytes) -> Iterator[tuple[str, bytes]]:
    """The same answer in the notation of another service, or with a member that nobody needs; name and body of each."""
    yield "byte order mark", b"\xef\xbb\xbf" + body
    yield "blank lines", b"\n\n \x00" + body + b"\r\n\x00"
    yield "bytes behind", body + b"\n<!-- served by a gateway -->"
    if not body.strip().startswith(b"{"):
        return
    rest = body.strip()[1:]
    comma = b"" if rest.strip() == b"}" else b","
    members = {
        "NaN": b'{"a": NaN, "b": [-Infinity, 1e999]}',
        "surrogate": b'"half \\ud83d a pair"',
        "NUL": b'"a \\u0000 b \x00 c"',
        "latin-1": b'"caf\xe9"',
        "large number": b"9" * 400,
        "deep": b"[" * _DEEP + b"]" * _DEEP,
        "long": b'"' + b"x" * 200_000 + b'"',
        "wrong escape": rb'"C:\x"',
    }
    for name, member in members.items():
        yield name, b'{"fleek_noise": ' + member + comma + rest


def written(value: Any) -> bytes:
    """A value as JSON, or as what services take for JSON."""
    return json.dumps(value).encode()


def json_values() -> st.SearchStrategy[Any]:
    """Any JSON value, and what services take for one."""
    scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(VALUES[1:])
    return st.recursive(
        scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3), max_leaves=5
    )
