"""Secrets do not come back, whatever others make of them; everything else stays as it is."""

import gzip
import html
import json
import re
import string
import sys
import time
from base64 import b64decode, b64encode, urlsafe_b64encode
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.core.redaction import SHORTEST, SHORTEST_WORD, Redactor, learn, redacted_chunks
from tests.support import ROOT

SECRET = "r8_Zq4Xw9LmT7vB2nK5pR8sD1fG6hJ3k"
TOKENS = st.text(string.ascii_letters + string.digits + "_-+/=.:%&\"'", min_size=SHORTEST_WORD, max_size=64)


def every(character):
    return "".join(f"%{byte:02x}" for byte in character.encode())


ENCODINGS = {
    "plain": str,
    "percent": lambda text: quote(text, safe=""),
    "percent, some": quote,
    "form": quote_plus,
    "percent, all": every,
    "percent, twice": lambda text: quote(quote(text, safe=""), safe=""),
    "json": lambda text: json.dumps(text)[1:-1],
    "json in json": lambda text: json.dumps(json.dumps(text))[1:-1],
    "html": html.escape,
    "base64": lambda text: b64encode(text.encode()).decode(),
    "base64 after one": lambda text: b64encode(b"u" + text.encode() + b"@").decode(),
    "basic": lambda text: b64encode(f"user:{text}".encode()).decode(),
    "base64 for URLs": lambda text: urlsafe_b64encode(b"ab" + text.encode()).decode(),
    "base64 in a URL": lambda text: quote(b64encode(text.encode()).decode(), safe=""),
    "hex": lambda text: text.encode().hex(),
}


def decoded(text):
    """All that somebody could read in it."""
    yield text
    for match in re.findall(r"[A-Za-z0-9+/_-]{4,}", text):
        plain = match.replace("-", "+").replace("_", "/")
        for start in range(4):
            whole = plain[start : start + (len(plain) - start) // 4 * 4]
            yield b64decode(whole).decode("latin-1")


@settings(max_examples=60, deadline=None)
@given(secret=TOKENS, encoding=st.sampled_from(sorted(ENCODINGS)), before=st.sampled_from(["", "a", "key=", "x:"]))
@example(secret="a" * 40, encoding="basic", before="")
@example(secret=SECRET, encoding="percent, all", before="")
def test_nothing_of_a_secret_survives_in_any_encoding(secret, encoding, before):
    shown = Redactor([secret]).text(f"refused: {before}{ENCODINGS[encoding](secret)} (401)")

    assert shown.startswith("refused: ")
    assert shown.endswith("(401)")
    for start in range(len(secret) - SHORTEST_WORD + 1):
        part = secret[start : start + SHORTEST_WORD]
        assert ENCODINGS["percent"](part) not in shown
        assert not any(part in readable for readable in decoded(shown))


@settings(deadline=None)
@given(secret=st.text(string.ascii_letters + string.digits, min_size=20, max_size=64), data=st.data())
def test_a_part_of_a_secret_is_masked_wherever_it_was_cut(secret, data):
    size = data.draw(st.integers(SHORTEST_WORD, len(secret)))
    start = data.draw(st.integers(0, len(secret) - size))

    assert Redactor([secret]).text(f"<{secret[start : start + size]}>") == "<***>"


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (f"invalid key {SECRET}", "invalid key ***"),
        (f"invalid key {SECRET[:SHORTEST]} in header", "invalid key *** in header"),
        (f"key ending in {SECRET[-SHORTEST:]}", "key ending in ***"),
        ("Incorrect API key provided: r8_Zq4***.", "Incorrect API key provided: ***."),
        ("Incorrect API key provided: r8_Z************hJ3k.", "Incorrect API key provided: ***."),
        ("the token r8_Zq4... is unknown", "the token *** is unknown"),
        ("no token …G6hJ3k", "no token ***"),
    ],
)
def test_parts_that_providers_show_are_masked(shown, expected):
    assert Redactor([SECRET]).text(shown) == expected


def test_urls_give_nothing_away():
    redactor = Redactor()

    assert redactor.text("postgresql://me:pass@db/x") == "postgresql://***@db/x"
    assert redactor.text("GET https://b.test/k?X-Amz-Date=1&X-Amz-Signature=ab12&x=1") == (
        "GET https://b.test/k?X-Amz-Date=1&X-Amz-Signature=***&x=1"
    )
    callback = f"/media/callbacks/fal/0190b5a2-1111-7000-8000-000000000000/{'0a' * 32}"
    assert redactor.text(callback) == f"{callback[:-64]}***"


@pytest.mark.parametrize("known", [[], [SECRET]])
@pytest.mark.parametrize("encoding", [name for name in ENCODINGS if name.startswith(("p", "j", "form", "html"))])
@pytest.mark.parametrize(
    ("url", "hidden"),
    [
        (f"/media/callbacks/fal/0190b5a2-1111-7000-8000-000000000000/{'0a' * 32}", "0a" * 32),
        ("https://b.test/k?X-Amz-Signature=ab12cd34&X-Amz-Date=1", "ab12cd34"),
        ("https://b.test/k?X-AMZ-SIGNATURE=ab12cd34&X-Amz-Date=1", "ab12cd34"),
        ("postgresql://me:pa5sw0rd@db/x", "pa5sw0rd"),
    ],
)
def test_urls_give_nothing_away_in_any_encoding(known, encoding, url, hidden):
    encode = ENCODINGS[encoding]
    for text in (encode(url), encode(url).replace("/", "\\/"), json.dumps({"url": encode(url)}).replace("/", "\\/")):
        masked = Redactor(known).text(f"it says {text} indeed")

        assert "***" in masked
        assert hidden not in masked
        assert encode(hidden) not in masked
        assert masked.startswith("it says ")


@pytest.mark.parametrize("value", ["", "guest", "minio", "fleek", "minioadmin", "postgres", "fleek-secret"])
def test_short_and_well_known_values_are_no_secrets(value):
    text = f"minioadmin and postgres refuse guest {value}: fleek-secret"

    assert Redactor([value]).text(text) == text


@settings(max_examples=8, deadline=None)
@given(secret=st.text(string.ascii_letters + string.digits + "-_", min_size=16, max_size=64))
def test_innocent_text_is_unchanged(secret):
    for page in PROSE:
        assert Redactor([secret]).text(page) == page


PROSE = [
    re.sub(r"://\S+@|/media/callbacks/\S*|(?i:x-amz-)\S*", "", line)
    for path in (Path("README.md"), Path("docs/how-to/deploy.md"))
    for line in (ROOT / path).read_text().splitlines()[:60]
]


def test_it_costs_microseconds_for_each_line():
    redactor = Redactor([f"{SECRET}{number}" for number in range(20)])
    line = json.dumps({"event": "request", "path": "/media/generate", "request_id": "0190b5a2" * 4, "more": "x " * 60})
    started = time.process_time()

    for _ in range(200):
        redactor.text(line)

    assert (time.process_time() - started) / 200 < 0.0005


def test_long_text_with_masked_middles_takes_time_in_proportion_to_its_length():
    known = Redactor(["a-secret-of-somebody-1234"])

    def steps(size):
        counted = 0

        def count(_frame, _event, _argument):
            nonlocal counted
            counted += 1

        sys.setprofile(count)
        try:
            known.text("a" * size + "..." + "b" * size + "***" * size)
        finally:
            sys.setprofile(None)
        return counted

    text = "\u4e00" * 200_000 + "..." + "x" * 200_000
    assert known.text(text) == text  # minutes, if each place were tried for each length
    assert steps(4_000) < 3 * steps(2_000)


@pytest.mark.parametrize("size", [1, 7, 5_000, 200_000])
@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
async def test_chunks_are_masked_in_any_encoding_and_otherwise_come_back(size, encoding, pack):
    secret = "an0ther-s3cret-of-Tests"
    learn([secret])
    text = "x" * 65_530 + secret + "y" * 9_000 + "é"
    data = pack(text.encode(encoding))

    async def chunks():
        for start in range(0, len(data), size):
            yield data[start : start + size]

    got = b"".join([chunk async for chunk in redacted_chunks(chunks())])

    assert got.decode(encoding) == text.replace(secret, "***")
