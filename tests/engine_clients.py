"""Writes to and reads from embedded engines by their own protocols, and inspects their processes."""

import contextlib
import datetime as dt
import hashlib
import hmac
import http.client
import json
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

import asyncpg
import psutil
import pytest
import redis
from obstore.store import S3Store

from app.embedded.postgres import PostgresEngine
from app.embedded.seaweed import SeaweedEngine
from app.embedded.valkey import ValkeyEngine

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc or a parent-death signal")


async def write_note(engine, text):
    """Leave a text with the engine, by the protocol its users speak."""
    if isinstance(engine, PostgresEngine):
        connection = await asyncpg.connect(engine.dsn)
        await connection.execute("create table if not exists note (text text); truncate note")
        await connection.execute("insert into note values ($1)", text)
        await connection.close()
    elif isinstance(engine, ValkeyEngine):
        with redis.Redis.from_url(engine.url) as client:
            client.set("note", text)
    else:
        bucket(engine, "notes").put("note", text.encode())


async def read_note(engine):
    if isinstance(engine, PostgresEngine):
        connection = await asyncpg.connect(engine.dsn)
        text = await connection.fetchval("select text from note")
        await connection.close()
        return text
    if isinstance(engine, ValkeyEngine):
        with redis.Redis.from_url(engine.url, decode_responses=True) as client:
            return client.get("note")
    return bytes(store_of(engine, "notes").get("note").bytes()).decode()


def address_of(engine):
    if isinstance(engine, SeaweedEngine):
        return engine.endpoint_url, engine.access_key_id, engine.secret_access_key
    return engine.dsn if isinstance(engine, PostgresEngine) else engine.url


def engine_file(data):
    return json.loads((data / "engine.json").read_text())


def process_tree(pid):
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def is_running(process):
    # an orphan stays a zombie where nobody reaps it, as in many containers
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def wait_until(condition, seconds=10):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def store_of(engine, name, secret=None):
    return S3Store(
        name,
        endpoint=engine.endpoint_url,
        region="us-east-1",
        access_key_id=engine.access_key_id,
        secret_access_key=secret or engine.secret_access_key,
        client_options={"allow_http": True, "proxy_url": engine.endpoint_url, "proxy_excludes": "127.0.0.1"},
        retry_config={"max_retries": 0, "retry_timeout": dt.timedelta(seconds=1)},
    )


def bucket(engine, name):
    """A store for a bucket that is made when missing; obstore cannot, so we sign the request."""
    host = urllib.parse.urlsplit(engine.endpoint_url).netloc
    moment = dt.datetime.now(dt.UTC).strftime("%Y%m%dT%H%M%SZ")
    scope = f"{moment[:8]}/us-east-1/s3/aws4_request"
    empty = hashlib.sha256(b"").hexdigest()
    signed = "host;x-amz-content-sha256;x-amz-date"
    headers = {"host": host, "x-amz-content-sha256": empty, "x-amz-date": moment}
    canonical = "\n".join(["PUT", f"/{name}", "", *(f"{k}:{v}" for k, v in headers.items()), "", signed, empty])
    text = "\n".join(["AWS4-HMAC-SHA256", moment, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = b"AWS4" + engine.secret_access_key.encode()
    for part in [*scope.split("/"), text]:
        key = hmac.digest(key, part.encode(), "sha256")
    credential = f"{engine.access_key_id}/{scope}"
    headers["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={signed}, Signature={key.hex()}"
    )
    connection = http.client.HTTPConnection(host, timeout=10)
    try:
        connection.request("PUT", f"/{name}", headers=headers)
        assert connection.getresponse().status in {200, 409}
    finally:
        connection.close()
    return store_of(engine, name)
