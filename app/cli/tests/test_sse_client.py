"""The parser of server-sent events."""

import pytest

from app.cli.listen.sse_client import MOST_CHARACTERS, NotAnEventStreamError, Parser, ServerSentEvent

WIRE = """\ufeffretry: 500
: a comment
event: add
data: 1
data:
data:  é
id: 7

data

id: 8

nonsense
event: without data

"""


EVENTS = [ServerSentEvent("add", "1\n\n é", "7"), ServerSentEvent("message", "", "7")]


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_parser_follows_the_standard_wherever_chunks_are_cut(end, size):
    wire = (WIRE.replace("\n", end) + f"data: unfinished{end}id: 9{end}").encode()
    parser = Parser()

    events = [event for at in range(0, len(wire), size) for event in parser.feed(wire[at : at + size])]

    assert events == EVENTS
    assert (parser.last_id, parser.retry) == ("8", 0.5)


def test_parser_ignores_an_id_with_null_and_a_retry_that_is_not_a_number():
    parser = Parser("5")

    assert list(parser.feed(b"id: 6\0\nretry: soon\ndata: x\n\n")) == [ServerSentEvent("message", "x", "5")]
    assert parser.retry is None


def test_parser_rejects_an_endless_event():
    parser = Parser()

    for _ in range(MOST_CHARACTERS // 1000):
        assert list(parser.feed(b"x" * 1000)) == []

    with pytest.raises(NotAnEventStreamError):
        list(parser.feed(b"x"))
