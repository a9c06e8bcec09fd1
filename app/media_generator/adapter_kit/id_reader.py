"""Reads the `id` of a JSON object of any size while it passes by, in constant memory."""

import re
from typing import Final

MOST_TOKENS: Final = 100_000
"""Strings, brackets and commas that are looked at; after them the object counts as one without an id."""
MOST_BYTES: Final = 200
"""Of a key or an id; longer ones are cut."""
_STRING: Final = re.compile(rb'["\\]')
_OUTERMOST: Final = re.compile(rb'["{}\[\]:,]')
_WITHIN: Final = re.compile(rb'["{}\[\]]')
_OPEN: Final = frozenset(b"{[")
_CLOSE: Final = frozenset(b"}]")


class IdReader:
    """`found` is the last `id` of the outermost object; ids within other values are passed over."""

    def __init__(self) -> None:
        self.found: str | None = None
        self.is_complete = False
        """Whether the end of the outermost value has passed by."""
        self._tokens = 0
        self._depth = 0
        self._in_string = False
        self._escaped = False
        self._text = b""
        self._key = b""
        """Of the outermost object, whose value comes next; empty: none."""

    def feed(self, chunk: bytes) -> None:
        """Process the next chunk."""
        at = 0
        while at < len(chunk) and self._tokens < MOST_TOKENS:
            self._tokens += 1
            at = self._string(chunk, at) if self._in_string else self._outside(chunk, at)

    def _string(self, chunk: bytes, at: int) -> int:
        if self._escaped:
            self._escaped = False
            return at + 1
        found = _STRING.search(chunk, at)
        end = len(chunk) if found is None else found.start()
        if self._depth == 1:
            self._text += chunk[at : min(end, at + MOST_BYTES - len(self._text))]
        if found is None:
            return end
        self._escaped = found[0] == b"\\"
        self._in_string = self._escaped
        if not self._in_string and self._key == b"id":
            self.found, self._key = self._text.decode(errors="replace"), b""
        return found.end()

    def _outside(self, chunk: bytes, at: int) -> int:
        found = (_OUTERMOST if self._depth == 1 else _WITHIN).search(chunk, at)
        if found is None:
            return len(chunk)
        token = found[0]
        if token == b'"':
            self._in_string, self._text = True, b""
            return found.end()
        # Any other token ends the value of a key.
        self._key = self._text if token == b":" else b""
        self._depth += (token[0] in _OPEN) - (token[0] in _CLOSE)
        self.is_complete = self.is_complete or (token[0] in _CLOSE and self._depth <= 0)
        return found.end()
