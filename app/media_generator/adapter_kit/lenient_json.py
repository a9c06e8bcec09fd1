"""Reads JSON as services write it; the one reader for everything that a provider answers.

What is no JSON by the standard, and is read all the same: a byte order mark, UTF-16, bytes that are not UTF-8, blanks
and NULs around the value or bytes after it, control characters and wrong escapes in strings, NaN and other numbers that
are none, a comma too many, keys that come twice, any depth and any length. What comes out can be stored by PostgreSQL
and written by msgspec: no NUL and no half of a surrogate pair, numbers of 64 bits or finite floats, MAX_DEPTH levels.
"""

import json
import re
from collections.abc import Callable, Iterable
from math import isfinite
from types import UnionType
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar, Union, cast, get_args, get_origin

import msgspec

from app.media_generator.adapter_kit.content_encodings import decompressed
from app.media_generator.errors import UnreadableAnswerError

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_DEPTH: Final = 64
"""Levels that are read; what lies deeper is null."""
MAX_TEXT_CHARS: Final = 2_000
"""Of an error's text."""
_LONGEST_INTEGER: Final = len("-9223372036854775808")
_LOWEST, _HIGHEST = -(2**63), 2**64 - 1
_BOMS: Final = ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"))
_SAMPLE_BYTES: Final = 64
"""Bytes at the start that show whether every other one is NUL."""
_AROUND: Final = "\ufeff\ufffe\x00\x0b\x0c\x85\xa0\u2028\u2029 \t\r\n"
"""Blanks and byte order marks around a value."""
_NEEDS_CARE: Final = re.compile(rb"null|\\u(?:0000|[dD][89a-fA-F])|[0-9]{19}")
"""What msgspec reads, but not as wanted here: a null may hide a value of the same key, the others cannot be stored."""
_LARGE_NUMBER: Final = re.compile(r"[0-9]{19}|[eE]\+?[0-9]{3}")
_UNSTORABLE: Final = re.compile("[\x00\ud800-\udfff]")
_MAY_BE_UNSTORABLE: Final = re.compile(r"\\u(?:0000|[dD][89a-fA-F])|[\x00\ud800-\udfff]")
_STRING: Final = r'"(?:[^"\\]++|\\.)*+"?'
"""Possessive, and to the end where it is cut off: linear for every input."""
_STRINGS: Final = re.compile(_STRING, re.DOTALL)
_NOT_BRACKET: Final = re.compile(r"[^\[\]{}]+")
_NESTED: Final = re.compile(rf'{_STRING}|([\[{{])|([\]}}])|[^"\[\]{{}}]++', re.DOTALL)
_FAULTY: Final = re.compile(rf'({_STRING})|([^\s"\[\]{{}},:]++)|,(?=\s*+[\]}},])', re.DOTALL)
"""What may have to be mended: a string, a word, a comma too many."""
_MOST_TOKENS: Final = 300_000
"""Strings, words and commas of a text that is mended; more would take seconds."""
_MOST_NESTED: Final = 2_000_000
"""Strings, brackets and what is between them, of a text that is too deep."""
_GOOD_STRING: Final = re.compile(r'(?:[^\\]++|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*+')
_ESCAPE: Final = re.compile(r'\\(["\\/bfnrt]|u[0-9a-fA-F]{4})?')
_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_MESSAGES: Final = (
    *("message", "msg", "detail", "details", "error", "description", "title", "reason", "text"),
    *("code", "type"),
)
"""Members of an error that say what happened, the best first."""
_WORDS: Final = frozenset({"true", "false", "null"})

_Kind = TypeVar("_Kind", bound=msgspec.Struct)


def parse(body: bytes | bytearray, *, of: str = "the provider") -> Any:
    """The value in an answer.

    Args:
        body: The answer.
        of: Who answered, for the message.

    Raises:
        UnreadableAnswerError: It is no JSON, by any reading, or it is cut off.
    """
    body = decompressed(body)
    if _few_brackets(body.count(b"["), body.count(b"{")) and _NEEDS_CARE.search(body) is None:
        try:
            return msgspec.json.decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            pass
    text = decoded(body).strip(_AROUND)
    try:
        if not _few_brackets(text.count("["), text.count("{")) and _depth(text) > MAX_DEPTH:
            text = _trimmed(text)
        try:
            value = _value(text)
        except ValueError:
            value = _value(_mended(text))
    except ValueError as error:
        raise UnreadableAnswerError(f"the answer of {of} cannot be read: {_start(text)}") from error
    return _cleaned(value) if _MAY_BE_UNSTORABLE.search(text) else value


def read(body: bytes | bytearray, kind: type[_Kind], *, of: str = "the provider") -> _Kind:
    """An object in an answer, each field on its own: one that is not of its type has its default.

    Args:
        body: The answer.
        kind: A msgspec.Struct; fields without a default are required.
        of: Who answered, for the message.

    Raises:
        UnreadableAnswerError: It is no JSON object, or a required field is missing or not of its type.
    """
    return read_value(parse(body, of=of), kind, of=of)


def read_value(value: Any, kind: type[_Kind], *, of: str = "the provider") -> _Kind:
    """The same for a value that is parsed already."""
    try:
        return _as_struct(value, kind)
    except _MisfitError as error:
        raise UnreadableAnswerError(f"the answer of {of} cannot be read: {error}") from error


def members(value: Any) -> dict[str, Any]:
    """The members of an object; empty if it is not an object."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def entries(value: Any) -> list[Any]:
    """The entries of a list; empty if it is not a list."""
    return list(cast("Sequence[Any]", value)) if isinstance(value, list) else []


def error_text(error: Any) -> str:
    """What an error of any form says: a sentence, an object with a message, or a list of these; empty: nothing."""
    return _error_text(error, 0)[:MAX_TEXT_CHARS]


def decoded(body: bytes | bytearray) -> str:
    """Its text: UTF-8, or UTF-16 where a byte order mark or its NULs say so; what is neither is U+FFFD."""
    return bytes(body).decode(encoding_of(body), errors="replace")


def encoding_of(start: bytes | bytearray) -> str:
    """The name of the encoding of a text that starts with these bytes."""
    for mark, name in _BOMS:
        if start.startswith(mark):
            return name
    sample = bytes(start[:_SAMPLE_BYTES])
    even, odd = sample[::2], sample[1::2]
    if odd and not any(odd) and all(even):
        return "utf-16-le"
    return "utf-16-be" if even and not any(even) and all(odd) else "utf-8"


def _few_brackets(*counts: int) -> bool:
    """Whether there are so few that they cannot be too deep."""
    return sum(counts) <= MAX_DEPTH


def _depth(text: str) -> int:
    deepest = now = 0
    for bracket in _NOT_BRACKET.sub("", _STRINGS.sub("", text)):
        now += 1 if bracket in "[{" else -1
        deepest = max(deepest, now)
    return deepest


def _value(text: str) -> Any:
    value, end = (_DECODER_OF_LARGE if _LARGE_NUMBER.search(text) else _DECODER).raw_decode(text)
    if text[end:] and not text.startswith(("{", "[", '"')):
        raise ValueError("words that begin like a value")
    return value


def _integer(text: str) -> int | float | None:
    if len(text) <= _LONGEST_INTEGER and _LOWEST <= (number := int(text)) <= _HIGHEST:
        return number
    return _float(text)


def _float(text: str) -> float | None:
    return number if isfinite(number := float(text)) else None


def _merged(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """An object; of a key that comes twice the last value that is not null."""
    found = dict[str, Any]()
    for name, value in pairs:
        if value is not None or name not in found:
            found[name] = value
    return found


def _no_number(_name: str) -> None:
    """NaN or Infinity."""


_DECODER: Final = json.JSONDecoder(strict=False, parse_constant=_no_number, object_pairs_hook=_merged)
_DECODER_OF_LARGE: Final = json.JSONDecoder(
    strict=False,
    parse_int=_integer,
    parse_float=_float,
    parse_constant=_no_number,
    object_pairs_hook=_merged,
)
"""Slower: its functions look at each number."""


def _trimmed(text: str) -> str:
    """The text with null for what lies too deep; a linear scan."""
    depth = 0

    def token(found: re.Match[str]) -> str:
        nonlocal depth
        opened, closed = found.groups()
        depth += 1 if opened else -1 if closed else 0
        if depth > MAX_DEPTH or (depth == MAX_DEPTH and closed):
            return "null" if opened and depth == MAX_DEPTH + 1 else ""
        return found[0]

    return _replaced(_NESTED, token, text, _MOST_NESTED)


def _mended(text: str) -> str:
    """The text as JSON, as far as possible; a linear scan."""
    if not text.startswith(("{", "[")):
        raise ValueError("it is no JSON")
    return _replaced(_FAULTY, _token, text, _MOST_TOKENS)


def _replaced(pattern: re.Pattern[str], token: Callable[[re.Match[str]], str], text: str, most: int) -> str:
    """The text with each token replaced.

    Raises:
        ValueError: There are too many.
    """
    left = most

    def counted(found: re.Match[str]) -> str:
        nonlocal left
        left -= 1
        if left < 0:
            raise ValueError("it has too many parts to be mended")
        return token(found)

    return pattern.sub(counted, text)


def _token(found: re.Match[str]) -> str:
    string, word = found.groups()
    if string:
        return string if _GOOD_STRING.fullmatch(string) else _ESCAPE.sub(_escape, string)
    return _word(word) if word else ""


def _escape(found: re.Match[str]) -> str:
    return found[0] if found[1] else "\\\\"


def _word(word: str) -> str:
    """A number or a name as JSON has it; null for what is none."""
    word = word.strip(_AROUND)
    if not word or _NUMBER.fullmatch(word):
        return word
    if word.lower() in _WORDS:
        return word.lower()
    try:
        number = float(word)
    except ValueError:
        return "null"
    return repr(number) if isfinite(number) else "null"


def _cleaned(value: Any) -> Any:
    if isinstance(value, str):
        return _UNSTORABLE.sub("\ufffd", value)
    if isinstance(value, dict):
        return {_cleaned(name): _cleaned(one) for name, one in members(value).items()}
    if isinstance(value, list):
        return [_cleaned(one) for one in entries(value)]
    return value


def _start(text: str) -> str:
    return repr(_UNSTORABLE.sub("\ufffd", text[:100])) if text else "it is empty"


def _error_text(error: Any, level: int) -> str:
    if isinstance(error, str):
        return error.strip()
    if level >= MAX_DEPTH or isinstance(error, bool):
        return ""
    if isinstance(error, dict):
        fields = members(error)
        found = (_error_text(fields[name], level + 1) for name in _MESSAGES if name in fields)
        return next(filter(None, found), "")
    if isinstance(error, list):
        return "; ".join(filter(None, (_error_text(one, level + 1) for one in entries(error))))
    return "" if error is None else str(error)


class _MisfitError(Exception):
    """A value is not of the wanted type."""


def _as_struct(value: Any, kind: type[_Kind]) -> _Kind:
    if not isinstance(value, dict):
        raise _MisfitError("it is no JSON object")
    given, found = members(value), dict[str, Any]()
    for field in msgspec.structs.fields(kind):
        try:
            found[field.name] = _fitted(given[field.encode_name], field.type)
        except (KeyError, _MisfitError) as error:
            if field.required:
                raise _MisfitError(f"it has no {field.encode_name}") from error
    return kind(**found)


def _fitted(value: Any, kind: Any) -> Any:
    """The value as one of this type."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin in {Union, UnionType}:
        return _fitted_to_any(value, inner)
    if origin is list:
        # One where a list is expected is a list of one.
        listed = entries(value) if isinstance(value, list) else [value] if value else []
        return list(_fitting(listed, inner[0]))
    if origin is dict:
        return dict(members(value)) if isinstance(value, dict) else _misfit()
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return _as_struct(value, kind)
    return _plain(value, kind)


def _fitted_to_any(value: Any, kinds: Iterable[Any]) -> Any:
    if value is None:
        return None
    for kind in kinds:
        try:
            return _fitted(value, kind)
        except _MisfitError:
            continue
    return _misfit()


def _fitting(values: Iterable[Any], kind: Any) -> Iterable[Any]:
    """Those that are of this type; the others are passed over."""
    for value in values:
        try:
            yield _fitted(value, kind)
        except _MisfitError:
            continue


def _plain(value: Any, kind: Any) -> Any:
    if kind is Any:
        return value
    if kind is str and isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    try:
        return msgspec.convert(value, kind, strict=not isinstance(value, str))
    except msgspec.ValidationError:
        return _misfit()


def _misfit() -> NoReturn:
    raise _MisfitError
