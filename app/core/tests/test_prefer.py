"""The request header `Prefer: wait=N` (RFC 7240)."""

import pytest

from app.core.http_server.prefer import wanted_wait


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("wait=10", 10),
        ("respond-async, wait=5", 5),
        ("Wait = 7 ; x=y", 7),
        ('wait="3"', 3),
        ("wait=0", 1),
        ("wait=3600", 60),
        ("wait=soon", None),
        ("await=5", None),
        ("wait=-1", None),
        ("", None),
        (None, None),
    ],
)
def test_prefer_wait_is_read_or_ignored(header, seconds):
    assert wanted_wait(header) == seconds
