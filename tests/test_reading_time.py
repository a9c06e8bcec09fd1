"""What others have written is read in time that grows with its length, whatever it is."""

import ast
import importlib
import inspect
import pkgutil
import re
import signal
import time
from contextlib import contextmanager, suppress

import pytest

from app.core.file_types import HEAD_BYTES, EndDetector, describe
from app.media_generator.adapter_kit import cog_outputs
from app.media_generator.adapter_kit.lenient_json import parse
from app.media_generator.errors import UnreadableAnswerError
from tests.corpora.files import files

PACKAGES = ("app.core.file_types", "app.media_generator.adapter_kit", "app.provenance")
METHODS = frozenset({"match", "fullmatch", "search", "sub", "findall", "finditer", "split"})
LONG = HEAD_BYTES
FEW_SECONDS = 2
"""Of the processor: generous, on a machine that does something else as well."""
SLACK = 0.03
"""Seconds that say nothing about growth."""
STARTS = (
    "",
    "<",
    "<!doctype svg",
    "<!doctype svg [",
    "<?xml ",
    "/",
    "{",
    "[",
    '"',
    "data:",
    "https://h/",
    "v",
    "ply\n",
)
PIECES = (
    *(
        " ",
        "\n",
        " \n",
        "a",
        "A",
        "0",
        "-",
        "=",
        ".",
        "/",
        "\\",
        '"',
        ",",
        ":",
        "[",
        "]",
        "{",
        "}",
        "%",
        "?",
        "\r",
        "\t",
    ),
    *("<!-- -->", "<!--", "-->", "<?a?>", "<?", "?>", "] ", "<a:", "a=", "a=b", "a.bb?", "/a.bb", "/../", ".png", "%%"),
    *("a ", "a,", ", ", "[a", "1,", "1e", "\\u0000", "\\u", "1% ", "1%", "1 2", "v 1 ", "v 1 2 3\n", "comment\n"),
    *('"asset":{', '"asset":', '"version":', "solid\n", "facet ", '"a', "://", "<rdf:Description "),
)
ENDS = ("!", " !")


@contextmanager
def at_most(seconds):
    """Ends what takes more time of the processor; the regular expressions of Python can be interrupted."""

    def end(_number, _frame):
        raise AssertionError(f"it takes more than {seconds} s")

    before = signal.signal(signal.SIGVTALRM, end)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def seconds_of(read, text):
    began = time.process_time()
    with at_most(FEW_SECONDS):
        read(text)
    return time.process_time() - began


def grows_with_length(read, make, length=LONG):
    """Four times the text takes at most eight times as long; of a quadratic reader it would be sixteen times."""
    whole = seconds_of(read, make(length))
    if whole < SLACK:
        return True
    return any(
        seconds_of(read, make(length)) < 8 * seconds_of(read, make(length // 4)) + SLACK
        for _ in range(3)  # a machine that is busy
    )


def texts():
    """Texts of a given length: a piece again and again, between a start and an end."""
    for start in STARTS:
        for piece in PIECES:
            for end in ENDS:
                yield repr((start, piece, end)), _made(start, piece, end)


def _made(start, piece, end):
    return lambda length: start + piece * ((length - len(start) - len(end)) // len(piece)) + end


def uses_of_patterns():
    """Each regular expression that a module calls by its name, with the method."""
    for package in map(importlib.import_module, PACKAGES):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if ".tests" in found.name:
                continue
            module = importlib.import_module(found.name)
            for node in ast.walk(ast.parse(inspect.getsource(module))):
                if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.attr in METHODS:
                    pattern = getattr(module, node.value.id, None)
                    if isinstance(pattern, re.Pattern):
                        yield pytest.param(pattern, node.attr, id=f"{found.name}.{node.value.id}.{node.attr}")


USES = {use.id: use for use in uses_of_patterns()}


def test_all_patterns_are_known():
    assert len(USES) > 25


@pytest.mark.parametrize(("pattern", "method"), USES.values())
def test_regular_expression_takes_time_in_proportion_to_the_text(pattern, method):
    def read(text):
        given = text.encode() if isinstance(pattern.pattern, bytes) else text
        call = getattr(pattern, method)
        found = call(b"" if given is not text else "", given) if method == "sub" else call(given)
        if method == "finditer":
            list(found)

    # A quarter shows quadratic time well enough, and exponential time anyway.
    slow = (name for name, make in texts() if not grows_with_length(read, make, LONG // 4))

    assert next(slow, None) is None


def test_description_takes_time_in_proportion_to_the_beginning():
    def read(text):
        describe(text.encode())

    slow = (name for name, make in texts() if not grows_with_length(read, make, LONG // 2))

    assert next(slow, None) is None


@pytest.mark.parametrize("piece", [b"a" * 10_000, b"\xff" * 10_000, b"\x00" * 10_000, b"\x00\x00\x00\x08free" * 1_000])
def test_end_is_detected_in_time_in_proportion_to_the_chunk(piece):
    """Of each format: its beginning, then many small parts in one chunk."""
    for file in (file for file in files() if file.name == file.format):
        head = file.content[:HEAD_BYTES]
        kind = describe(head)
        for kept in (2, len(head)):

            def read(chunk, kind=kind, head=head):
                EndDetector(kind, head).feed(chunk)

            def make(length, begin=head[:kept]):
                return begin + piece * (length // len(piece))

            assert grows_with_length(read, make, 4 * LONG), (file.name, kept)


@pytest.mark.parametrize("start", ["", '["', '{"a":', "[" * 100])
def test_answer_is_read_in_time_in_proportion_to_its_length(start):
    def read(text):
        with suppress(UnreadableAnswerError):
            parse(text.encode())

    for piece in PIECES:
        assert grows_with_length(read, _made(start, piece, "!")), piece


def test_error_of_a_model_is_read_in_time_in_proportion_to_its_length():
    assert grows_with_length(lambda text: cog_outputs.failure(text, ""), lambda length: ": " * (length // 2), 8 * LONG)


@pytest.mark.parametrize("piece", ["a ", "1 ", '"a" ', "[", "[a,", "{]", ", "])
def test_long_answer_does_not_hold_up_the_event_loop(piece):
    """Eight megabytes of anything take a few seconds, and not dozens."""
    body = b"[" + piece.encode() * (8 * 1024 * 1024 // len(piece))

    with at_most(6), suppress(UnreadableAnswerError):
        parse(body)
