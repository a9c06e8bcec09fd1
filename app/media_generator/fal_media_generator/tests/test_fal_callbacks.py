"""Callbacks of fal: signatures, keys, and purchases whose answer was lost."""

import hashlib
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest
from nacl.encoding import URLSafeBase64Encoder
from nacl.signing import SigningKey

from app.core.ids import new_id
from app.jobs.callbacks import signing_keys
from app.media_generator.accounts import Account, ProviderSetup
from app.media_generator.callbacks import Callback, CallbackRefusedError
from app.media_generator.errors import UnreadableAnswerError
from app.media_generator.fal_media_generator.provider import FalMediaGeneratorModel
from app.media_generator.media_generator_model import Reference
from tests.providers.fal import PROMPT, SCHNELL, finish_request, picture
from tests.providers.server import Server, respond_with
from tests.support import eventually

KEY = SigningKey.generate()


def jwk(key):
    return {"kty": "OKP", "crv": "Ed25519", "x": key.verify_key.encode(URLSafeBase64Encoder).decode().rstrip("=")}


def signed(body, *, key=KEY, at=None, **changes):
    """A signed callback, as fal sends it."""
    timestamp = str(int((at or datetime.now(UTC)).timestamp()))
    message = "\n".join(("req-1", "user-1", timestamp, hashlib.sha256(body).hexdigest())).encode()
    headers = {
        "x-fal-webhook-request-id": "req-1",
        "x-fal-webhook-user-id": "user-1",
        "x-fal-webhook-timestamp": timestamp,
        "x-fal-webhook-signature": key.sign(message).signature.hex(),
    }
    given = {name: value for name, value in {**headers, **changes.pop("headers", {})}.items() if value is not None}
    sent = changes.pop("sent", body)
    return Callback(new_id(), given, sent, datetime.now(UTC), changes.pop("query", {"model": SCHNELL}))


BODY = b'{"request_id": "req-1", "gateway_request_id": "req-2", "status": "OK", "payload": {"images": []}}'


async def test_signed_callback_identifies_its_purchase(provider, server):
    keys_url = Server(**{"/keys": respond_with(msgspec.json.encode({"keys": [jwk(SigningKey.generate()), jwk(KEY)]}))})
    async with keys_url as keys_server:
        asking_keys = FalMediaGeneratorModel.open_account(
            ProviderSetup(Account("fal", {"key": "k", "jwks_url": f"{keys_server.url}/keys"}), provider._http)
        )
        keys = await asking_keys.callback_keys()

    assert provider.read_callback(signed(BODY), keys) == Reference("req-1", {"model": SCHNELL})
    assert server.requests == []


@pytest.mark.usefixtures("product")
async def test_callback_identifies_a_purchase_with_lost_answer(client, working, make, server, db):
    server.answers[f"/{SCHNELL}"] = server.drop
    server.answers["/keys"] = respond_with(msgspec.json.encode({"keys": [jwk(KEY)]}))
    server.answers["/picture.png"] = respond_with(picture())
    finish_request(server, {"images": [{"url": f"{server.url}/picture.png"}]})
    provider = make(server.url, jwks_url=f"{server.url}/keys")
    await working(provider, callback_url="https://fleek.example", reconcile_seconds=300)
    await eventually(lambda: signing_keys.keys_of(db, "fal"))
    media = await client.generate(model=f"fal/{SCHNELL}", prompt=PROMPT)

    async def submissions():
        return [urlsplit(came.path) for came in server.requests if came.path.startswith(f"/{SCHNELL}")]

    (order,) = await eventually(submissions)
    callback_url = urlsplit(parse_qs(order.query)["fal_webhook"][0])
    unsigned = await client.api.post(f"{callback_url.path}?{callback_url.query}", content=BODY)
    answer = await client.api.post(
        f"{callback_url.path}?{callback_url.query}", content=BODY, headers=signed(BODY).headers
    )
    done = await client.until(media)

    assert (unsigned.status_code, answer.status_code) == (401, 204)
    assert (done["status"], done["number_of_tries"]) == ("COMPLETED", 1)
    assert len(await submissions()) == 1


@pytest.mark.parametrize("query", [{}, {"model": "fal-ai/unheard-of"}])
def test_callback_without_known_model_identifies_no_purchase(provider, query):
    assert provider.read_callback(signed(BODY, query=query), [jwk(KEY)["x"]]) is None


@pytest.mark.parametrize(
    "callback",
    [
        signed(BODY, key=SigningKey.generate()),
        signed(BODY, sent=BODY + b" "),
        signed(BODY, at=datetime.now(UTC) - timedelta(minutes=6)),
        signed(BODY, at=datetime.now(UTC) + timedelta(minutes=6)),
        signed(BODY, headers={"x-fal-webhook-user-id": "user-2"}),
        signed(BODY, headers={"x-fal-webhook-request-id": None}),
        signed(BODY, headers={"x-fal-webhook-signature": "zz"}),
        signed(BODY, headers={"x-fal-webhook-signature": "00" * 64}),
        signed(BODY, headers={"x-fal-webhook-timestamp": "soon"}),
        signed(b"[", sent=b"["),
    ],
    ids=["stranger", "changed", "old", "early", "other user", "no id", "no hex", "zeros", "no time", "no body"],
)
def test_forged_or_old_callback_is_refused(provider, callback):
    with pytest.raises(CallbackRefusedError):
        provider.read_callback(callback, [jwk(KEY)["x"], "no key", "AAAA"])


def test_callback_is_refused_without_keys(provider):
    with pytest.raises(CallbackRefusedError, match="no keys"):
        provider.read_callback(signed(BODY), [])


@pytest.mark.parametrize("body", [b"", b"{}", b'{"keys": []}', b'{"keys": [{"kty": "RSA", "n": "AAAA"}]}'])
async def test_unreadable_keys_are_an_error(http, server, body):
    server.answers["/keys"] = respond_with(body)
    account = Account("fal", {"key": "k", "jwks_url": f"{server.url}/keys"})

    with pytest.raises(UnreadableAnswerError):
        await FalMediaGeneratorModel.open_account(ProviderSetup(account, http)).callback_keys()
