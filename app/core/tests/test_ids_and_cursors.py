"""Identifiers that sort by time, and page cursors made of them."""

import uuid

import pytest

from app.core.ids import new_id
from app.core.pagination import InvalidCursorError, decode_cursor, encode_cursor


def test_new_ids_are_uuid_version_7_and_sort_by_time():
    ids = [new_id() for _ in range(1000)]

    assert {(one.version, one.variant) for one in ids} == {(7, uuid.RFC_4122)}
    assert [one.int >> 80 for one in ids] == sorted(one.int >> 80 for one in ids)
    assert len(set(ids)) == 1000


def test_cursor_round_trips_and_an_invalid_one_is_refused():
    one = new_id()

    assert decode_cursor(encode_cursor(one)) == one
    for nonsense in ("", "x", "ä", encode_cursor(one) + "AAAA", "=" * 30):
        with pytest.raises(InvalidCursorError):
            decode_cursor(nonsense)
