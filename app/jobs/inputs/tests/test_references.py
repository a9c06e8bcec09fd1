"""How an `input` names files."""

from app.core.ids import new_id
from app.jobs.inputs.references import InlineData, OutputReference, file_places, parse_reference, with_replaced_text
from tests.input_files import SCHEMA


def test_file_places_are_found_wherever_the_schema_has_them():
    given = {"image": "a", "images": ["b", "c"], "word": "d", "strength": 0.5, "weights": "e"}

    found = dict(file_places(SCHEMA, given))

    assert found == {("image",): "a", ("images", 0): "b", ("images", 1): "c", ("weights",): "e"}
    assert with_replaced_text(given, lambda _, text: text.upper(), frozenset(found)) == {
        **given,
        "image": "A",
        "images": ["B", "C"],
        "weights": "E",
    }


def test_media_reference_may_have_an_index():
    media_id = new_id()

    for text, index in ((f"media:{media_id}", 0), (f"media:{media_id}#2", 2), (f"media:{media_id}?index=3", 3)):
        assert parse_reference(text, allow_private=False) == OutputReference(media_id, index)


def test_data_uri_may_be_base64_or_not():
    assert parse_reference("data:text/plain;charset=utf-8,a%20b", allow_private=False) == InlineData(b"a b")
    assert parse_reference("data:;base64,YWI=", allow_private=False) == InlineData(b"ab")
