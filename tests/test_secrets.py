"""A provider that repeats our key, and a receiver that repeats its secret: neither is shown, stored or logged."""

import json
from base64 import b64encode
from urllib.parse import quote

from aiohttp import web

from tests.receiver import Receiver
from tests.support import api_and_worker, eventually
from tests.webhook_delivery import deliveries_of, register

KEY = "sk-proj-7Hn2+kQ9/vTz4LmXw8Rb3YcJf6Ds1Ga5Pe0Uo"


def everything_of(secret):
    """Parts of a secret, raw and encoded, that may not be seen anywhere."""
    forms = (secret, quote(secret, safe=""), b64encode(f"user:{secret}".encode()).decode()[8:-4], secret.encode().hex())
    return [form[at : at + 12] for form in forms for at in range(len(form) - 12)]


async def echoing(got):
    """Refuses, and says so in many ways."""
    header = got.headers.get("authorization", "none")
    basic = b64encode(f"user:{header.removeprefix('Bearer ')}".encode()).decode()
    message = f"bad header {header}; {quote(header, safe='')}; Basic {basic}; key {header[7:19]}***{header[-4:]}"
    return web.json_response({"error": {"message": message, "code": header}}, status=401)


async def test_what_a_provider_repeats_of_our_key_is_nowhere_to_be_seen(settings, db, tmp_path):
    async with Receiver(echoing) as provider:
        environment = {
            "OPENAI_API_KEY": KEY,
            "OPENAI_BASE_URL": provider.url,
            "OPENAI_MODELS": "echo",
            "ALLOW_PRIVATE_ADDRESSES": "true",
        }
        async with api_and_worker(settings, tmp_path, **environment) as client:
            media = await client.until(await client.generate(model="openai/echo"))
            shown = [
                (await client.api.get(path)).text
                for path in (
                    f"/media/{media['id']}",
                    f"/media/{media['id']}/attempts",
                    f"/media/{media['id']}/logs",
                    f"/media/{media['id']}/timeline",
                    "/tools/ready",
                    "/tools/metrics",
                )
            ]
    assert provider.got[0].headers["authorization"] == f"Bearer {KEY}"
    assert media["error"]["code"] == "provider_unauthorized"
    assert "***" in media["error"]["message"]

    stored = await db.fetch(
        """SELECT to_jsonb(m)::text FROM media m UNION ALL SELECT to_jsonb(a)::text FROM attempts a UNION ALL
        SELECT to_jsonb(h)::text FROM media_history h UNION ALL SELECT to_jsonb(l)::text FROM logs l UNION ALL
        SELECT to_jsonb(g)::text FROM provider_gates g"""
    )
    logged = [path.read_text() for path in tmp_path.glob("*.log")]
    assert any("***" in text for text in logged)
    for text in [*shown, *(row[0] for row in stored), *logged]:
        assert not [part for part in everything_of(KEY) if part in text]


async def test_what_a_receiver_repeats_of_its_secret_is_not_kept(settings, tmp_path):
    secrets = []

    async def repeating(got):
        repeated = [*secrets, *(b64encode(secret.encode()).decode() for secret in secrets)]
        return web.json_response({"signed with": repeated}, status=500)

    async with (
        Receiver(repeating) as receiver,
        api_and_worker(settings, tmp_path, ALLOW_PRIVATE_ADDRESSES="true") as client,
    ):
        webhook = await register(client, receiver.url, events=["media.completed"])
        secrets.append(webhook["secret"])
        await client.faulty()
        (delivery,) = await eventually(lambda: deliveries_of(client, webhook))

        async def attempts():
            path = f"/webhooks/{webhook['id']}/deliveries/{delivery['id']}"
            return json.dumps((await client.api.get(path)).json())

        shown = await eventually(attempts, lambda text: "signed with" in text)

    assert not [part for part in everything_of(secrets[0]) if part in shown]
