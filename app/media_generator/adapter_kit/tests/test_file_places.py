"""Addresses and data URIs as services write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.media_generator.adapter_kit.file_places import absolute, decode_data_uri, find_places, is_same_origin
from app.media_generator.contract.mutations import json_values
from app.media_generator.errors import OutputError

BASE = "https://api.test/v1/images/generations"
SIGNED = "https://s3.test/a%2Fb/c.png?X-Amz-Signature=a%2Bb%3D&x=%E2%82%AC&response=attachment;filename=%22a%22"


@pytest.mark.parametrize(
    ("text", "url"),
    [
        (SIGNED, SIGNED),
        ("HTTPS://a.test/x", "https://a.test/x"),
        (" https://a.test/b\n", "https://a.test/b"),
        ("https://a.test/b c?d=e f", "https://a.test/b%20c?d=e%20f"),
        ("https://a.test/ä%20b%zz", "https://a.test/%C3%A4%20b%25zz"),
        ("https://bücher.test/a", "https://xn--bcher-kva.test/a"),
        ("https://a.test/x/./y/../z.png", "https://a.test/x/z.png"),
        ("https://a.test/../../z.png", "https://a.test/z.png"),
        ("https://a.test/z.png#part", "https://a.test/z.png"),
        ("/files/a.png", "https://api.test/files/a.png"),
        ("//cdn.test/a.png", "https://cdn.test/a.png"),
        ("a.png", "https://api.test/v1/images/a.png"),
        ("../a.png?b=c", "https://api.test/v1/a.png?b=c"),
        ("http://[", "http://["),
    ],
)
def test_address_can_be_requested(text, url):
    assert absolute(text, BASE) == url


@given(st.text())
def test_any_text_has_an_address(text):
    assert isinstance(absolute(text, BASE), str)


@pytest.mark.parametrize(
    ("uri", "content"),
    [
        ("data:image/png;base64,aGVsbG8=", b"hello"),
        ("data:image/png;base64,aGVsbG8", b"hello"),
        ("DATA:;charset=utf-8;name=a; Base64 ,aGVs\nbG8", b"hello"),
        ("data:;base64,_-8", b"\xff\xef"),
        ("data:;base64,aGVsbG8%3D", b"hello"),
        ("data:image/png,iVBORw0KGgoAAAAN", b"\x89PNG\r\n\x1a\n\x00\x00\x00\r"),
        ("data:,a%20b", b"a b"),
    ],
)
def test_data_uri_of_any_notation_is_decoded(uri, content):
    assert decode_data_uri(uri) == content


@pytest.mark.parametrize("uri", ["data:image/png;base64", "data:;base64,****", "data:;base64,a", "data:;base64,ü"])
def test_broken_data_uri_is_an_output_error(uri):
    with pytest.raises(OutputError):
        decode_data_uri(uri)


@pytest.mark.parametrize(
    ("value", "places"),
    [
        (
            {"url": "https://a.test/1", "mask": {"url": "https://a.test/2"}, "extra": ["https://a.test/3"]},
            ["https://a.test/1", "https://a.test/2", "https://a.test/3"],
        ),
        ({"image_url": "https://a.test/1", "video_url": "https://a.test/2"}, ["https://a.test/1", "https://a.test/2"]),
        ({"images": [{"url": "https://a.test/1"}, "B.png"]}, ["https://a.test/1", "https://api.test/v1/images/B.png"]),
        ({"images": [{"url": "https://a.test/1"}, "/b"]}, ["https://a.test/1", "https://api.test/b"]),
        ([{"url": ["https://a.test/1"]}, {"url": "https://a.test/2"}], ["https://a.test/1", "https://a.test/2"]),
        (
            [{"b64_json": "iVBORw0KGgoA"}, "/9j/4AAQSkZJRgABAQ"],
            ["data:;base64,iVBORw0KGgoA", "data:;base64,/9j/4AAQSkZJRgABAQ"],
        ),
        (
            {"image_base64": "iVBORw0KGgoA", "thumb": "https://a.test/1"},
            ["data:;base64,iVBORw0KGgoA", "https://a.test/1"],
        ),
        ({"out": "https://a.test/1\r\nhttps://a.test/2\n"}, ["https://a.test/1", "https://a.test/2"]),
        (["https://a.test/1", {"url": "https://a.test/1"}], ["https://a.test/1"]),
        ({"url": "https://a.test/1", "file_name": "a.png", "content_type": "image/png"}, ["https://a.test/1"]),
        (
            {"images": [{"url": "https://a.test/1"}], "license": "https://b.test/terms"},
            ["https://a.test/1"],
        ),
        ({"video": {"url": "ftp://a.test/v.mp4"}, "x": "gs://b/c.png"}, ["ftp://a.test/v.mp4", "gs://b/c.png"]),
        ({"answer": "/imagine", "mime": "image/png", "note": "n/a", "url": "n/a", "words": ["e.g.", "and/or"]}, []),
        ({"url": "https://page.test", "images": [{"url": "https://a.test/1"}]}, ["https://a.test/1"]),
        ({"items": ["https://a.test/1", None, "words", "see https://b.test/2"]}, ["https://a.test/1"]),
        ({"url": "pending"}, []),
        ({"b64_json": None, "url": ""}, []),
    ],
)
def test_files_are_found_in_values_of_any_shape(value, places):
    assert find_places(value, BASE) == places


@given(json_values())
def test_any_value_can_be_searched(value):
    assert all(isinstance(place, str) for place in find_places(value, BASE))


@pytest.mark.parametrize(
    ("url", "same"),
    [
        ("https://API.acme.test/a", True),
        ("HTTPS://api.acme.test:443/a", True),
        ("http://api.acme.test/a", False),
        ("https://api.acme.test:8443/a", False),
        ("https://api.acme.test.evil.test/a", False),
        ("https://api.acme.test:0/a", False),
        ("https://[api/a", False),
        ("https://api.acme.test:port/a", False),
    ],
)
def test_origin_is_scheme_host_and_port(url, same):
    assert is_same_origin(url, "https://api.acme.test/v1") == same
