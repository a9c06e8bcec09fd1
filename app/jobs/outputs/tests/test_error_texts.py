"""Words about a failure, and results that are made of text."""

import pytest

from app.core.file_types import describe
from app.jobs.outputs.error_texts import tells_of_a_failure

FAILURES = [
    b"NSFW content detected",
    b"upstream connect error or disconnect/reset before headers. reset reason: connection failure",
    b'{"error": {"code": 13, "message": "no capacity"}}',
    b'{"detail": "Not Found"}',
    b'{"status": "FAILED"}',
    b"null",
    b"[]",
    b"<?xml version='1.0'?><Error><Code>NoSuchKey</Code></Error>",
    b"<?xml version='1.0'?>\n<soap:Envelope><soap:Fault>no</soap:Fault></soap:Envelope>",
    b"   \n",
    b"Error 1015 2 3 you are being rate limited",
]
RESULTS = [
    b"<?xml version='1.0'?><COLLADA version='1.4.1'><asset/></COLLADA>",
    b"<?xml version='1.0'?><X3D><Scene/></X3D>",
    b"P3\n2 2\n255\n0 0 0 255 0 0 0 255 0 0 0 255\n",
    b"#VRML V2.0 utf8\nShape {}\n",
    b"  0\nSECTION\n  2\nENTITIES\n  0\nENDSEC\n",
    b"ISO-10303-21;\nHEADER;\n",
    b"OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n",
    b"/* XPM */\nstatic char *x[] = {};\n",
    b"#define x_width 8\n#define x_height 8\n",
    b'{"v": "5.5.7", "fr": 30, "layers": []}',
    b"0.1, 0.2, 0.3\n0.4, 0.5, 0.6\n",
    b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n",
]


@pytest.mark.parametrize("text", FAILURES)
def test_words_about_a_failure_are_told(text):
    assert tells_of_a_failure(text, describe(text).media_type)


@pytest.mark.parametrize("text", RESULTS)
def test_formats_made_of_text_are_no_failure(text):
    assert not tells_of_a_failure(text, describe(text).media_type)
