"""Reads JSON as services write it, and everything that is read can be stored."""

import ast
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.core.database.text import storable
from app.media_generator.adapter_kit.lenient_json import MAX_DEPTH, error_text, parse, read
from app.media_generator.errors import Sent, UnreadableAnswerError
from tests.support import ROOT

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    # The keys and values of PostgreSQL have no NUL.
    | st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="ascii", min_codepoint=32)), inner),
)


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b'\xef\xbb\xbf{"a": 1}', {"a": 1}),
        ('{"a": "é"}'.encode("utf-16"), {"a": "é"}),
        ('{"a": "é"}'.encode("utf-16-le"), {"a": "é"}),
        ('{"a": "é"}'.encode("utf-16-be"), {"a": "é"}),
        (b'\r\n\x00 {"a": 1}\n\x00\x00', {"a": 1}),
        (b'{"a": 1}\n<!-- cached -->', {"a": 1}),
        (b'{"a": "caf\xe9"}', {"a": "caf\ufffd"}),
        (rb'{"a": "\ud83d", "b\u0000": "\ud83d\ude00"}', {"a": "\ufffd", "b\ufffd": "\U0001f600"}),
        (b'{"a": "x\x00\x01\ny"}', {"a": "x\ufffd\x01\ny"}),
        (b'{"a": NaN, "b": -Infinity, "c": 1e999, "d": nan, "e": -NaN}', dict.fromkeys("abcde")),
        (b'{"a": 18446744073709551615, "b": 18446744073709551616}', {"a": 2**64 - 1, "b": 2.0**64}),
        (b'{"a": ' + b"9" * 5_000 + b"}", {"a": None}),
        (b'{"a": .5, "b": +1, "c": 0x1F}', {"a": 0.5, "b": 1.0, "c": None}),
        (b'{"a": 1, "a": null, "b": null, "b": 2, "b": 3}', {"a": 1, "b": 3}),
        (b'{"a": [1, 2,], "b": True, "c": undefined,}', {"a": [1, 2], "b": True, "c": None}),
        (rb'{"a": "C:\x \u12"}', {"a": r"C:\x \u12"}),
        (b'{"a": "' + b"x" * 3_000_000 + b'"}', {"a": "x" * 3_000_000}),
        (b"[]", []),
        (b'"text"', "text"),
        (b"null", None),
    ],
)
def test_json_as_services_write_it_is_read(body, value):
    found = parse(body)

    assert found == value
    assert storable(found) == found
    assert msgspec.json.decode(msgspec.json.encode(found)) == found


@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"d": [1, ', b"]}")])
def test_what_lies_too_deep_is_null_and_the_rest_is_read(opening, closing):
    found = parse(b'{"d": ' + opening * 50_000 + b"2" + closing * 50_000 + b', "a": "[{"}')

    assert found["a"] == "[{"
    assert depth(found) == MAX_DEPTH


def depth(value):
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(depth, inner), default=0)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" \n",
        b"<html>",
        b"<html>{}</html>",
        b'{"a": "b',
        b'{"a": [1, 2',
        b"nullable",
        b"truely",
        b"{'a': 1}",
        b"}",
    ],
)
def test_what_is_no_json_is_an_unreadable_answer(body):
    with pytest.raises(UnreadableAnswerError) as unreadable:
        parse(body, of="Acme")

    assert unreadable.value.sent is Sent.UNKNOWN
    assert "Acme" in unreadable.value.message


@given(VALUES)
def test_valid_json_is_read_as_it_is(value):
    assert parse(json.dumps(value).encode()) == value
    assert parse(json.dumps(value, ensure_ascii=False).encode()) == value


@settings(max_examples=300)
@given(st.binary() | st.text(alphabet='{}[]",:\\ \x00aeNnu0123-.').map(str.encode))
def test_any_bytes_are_read_or_unreadable(body):
    try:
        found = parse(body)
    except UnreadableAnswerError:
        return
    assert storable(found) == found
    msgspec.json.encode(found)


class Line(msgspec.Struct):
    text: str
    number: int = 0


class Job(msgspec.Struct):
    id: str
    progress: float | None = None
    seed: int = 7
    lines: list[Line] | None = None
    more: dict[str, Any] | None = None
    last: Line | None = None
    is_done: bool = False
    rest: Any = None


def test_each_field_is_read_on_its_own():
    body = b"""{"id": 5, "progress": "half", "seed": {}, "more": [], "last": 7, "is_done": "yes", "rest": NaN,
        "lines": [{"text": "a", "number": null}, null, 7, {"number": 1}, {"text": "b", "number": 2}]}"""

    assert read(body, Job) == Job("5", lines=[Line("a"), Line("b", 2)])


def test_one_where_a_list_is_expected_is_a_list_of_one():
    assert read(b'{"id": "a", "lines": {"text": "b"}}', Job).lines == [Line("b")]


@pytest.mark.parametrize("body", [b"[]", b"null", b"{}", b'{"id": null}', b'{"id": []}', b'{"id": true}'])
def test_missing_required_field_is_an_unreadable_answer(body):
    with pytest.raises(UnreadableAnswerError):
        read(body, Job)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        ("busy", "busy"),
        ({"message": "busy", "code": 7}, "busy"),
        ({"error": {"detail": [{"msg": "a"}, "b", None]}}, "a; b"),
        ({"code": 503}, "503"),
        ([], ""),
        (None, ""),
        (True, ""),
    ],
)
def test_error_of_any_form_has_a_text(error, text):
    assert error_text(error) == text


ADAPTERS = sorted((ROOT / "app" / "media_generator").glob("*_media_generator"))
OWN_NOTES = {
    "comfyui_media_generator/workflows.py",
    "dummy_media_generator/provider.py",
    "local_media_generator/provider.py",
}
"""They read what we have written ourselves: workflows of the operator, and locations of outputs."""


@pytest.mark.parametrize("folder", ADAPTERS, ids=lambda folder: folder.name)
def test_adapters_read_answers_with_the_one_reader(folder):
    for path in folder.glob("*.py"):
        readers = [
            ast.unparse(node.func) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)
        ]
        strict = {"json.loads", "json.load", "msgspec.json.decode", "msgspec.convert"} & set(readers)
        assert not strict or str(path.relative_to(folder.parent)) in OWN_NOTES, f"{path.name} calls {strict}"


@pytest.mark.parametrize(
    "path", sorted((ROOT / "app" / "media_generator" / "adapter_kit").glob("*.py")), ids=lambda p: p.name
)
def test_the_kit_reads_answers_with_the_one_reader(path):
    calls = {ast.unparse(node.func) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)}

    assert path.name == "lenient_json.py" or not calls & {"json.loads", "msgspec.json.decode"}
