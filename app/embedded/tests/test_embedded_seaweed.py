"""The embedded S3 server: who may read and write."""

import datetime as dt
import urllib.error
import urllib.parse
import urllib.request

import obstore
import obstore.exceptions
import pytest

from app.core.this_machine import opener
from tests.engine_clients import bucket, engine_file, store_of


def test_s3_stores_files_in_several_buckets(engines):
    for number in range(3):
        bucket(engines.seaweed, f"bucket{number}").put("file", b"content")


def test_s3_refuses_unsigned_requests(engines):
    bucket(engines.seaweed, "closed").put("file", b"secret")

    for path in ("/", "/closed", "/closed/file"):
        assert fetch(engines.seaweed.endpoint_url + path)[0] == 403
    assert fetch(engines.seaweed.endpoint_url + "/closed/new", method="PUT", data=b"x")[0] == 403


def test_s3_refuses_a_wrong_secret(engines):
    store = bucket(engines.seaweed, "closed")
    store.put("file", b"secret")
    wrong = store_of(engines.seaweed, "closed", secret="wrong")

    with pytest.raises(obstore.exceptions.PermissionDeniedError, match="SignatureDoesNotMatch"):
        wrong.get("file")


def test_presigned_url_also_serves_web_pages_of_other_origins(engines):
    store = bucket(engines.seaweed, "shared")
    store.put("file", b"for you")
    url = obstore.sign(store, "GET", "file", dt.timedelta(minutes=1))

    status, body, headers = fetch(url, headers={"Origin": "http://localhost:3000"})

    assert (status, body) == (200, b"for you")
    assert headers["Access-Control-Allow-Origin"] in {"*", "http://localhost:3000"}
    assert fetch(url.replace("/shared/file", "/shared/other"))[0] == 403


@pytest.mark.parametrize("service", ["filer", "volume"])
def test_internal_services_of_seaweedfs_refuse_unsigned_requests(engines, service):
    bucket(engines.seaweed, "closed").put("file", b"secret")
    port = engine_file(engines.seaweed.data)["ports"][service]

    for path in ("/buckets/closed/file", "/1,01"):
        assert fetch(f"http://127.0.0.1:{port}{path}")[0] == 401


def fetch(url, **options):
    request = urllib.request.Request(url, **options)
    try:
        with opener(url).open(request, timeout=10) as answer:
            return answer.status, answer.read(), answer.headers
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read(), error.headers
