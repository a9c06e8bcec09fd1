"""Signatures of webhooks, read by the official package of Standard Webhooks."""

import json
import time
from base64 import b64decode

import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from app.webhooks import signing

BODY = '{"type":"media.completed","data":{"prompt":"Möwen über Fels"}}'.encode()
ID = "0198f0c2-7b1e-7c3a-9a55-2f0d5f6f1c11"


def test_secret_is_prefix_and_32_random_bytes():
    one, another = signing.new_secret(), signing.new_secret()

    assert one != another
    assert one.startswith("whsec_")
    assert len(b64decode(one.removeprefix("whsec_"), validate=True)) == 32


def test_signature_is_accepted_by_official_package():
    secret = signing.new_secret()

    assert Webhook(secret).verify(BODY, signing.headers([secret], ID, int(time.time()), BODY)) == json.loads(BODY)


def test_signature_matches_example_of_specification():
    found = signing.signatures(
        ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}'
    )

    assert found == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_two_secrets_make_two_valid_signatures():
    secrets = [signing.new_secret(), signing.new_secret()]
    headers = signing.headers(secrets, ID, int(time.time()), BODY)

    assert len(headers["webhook-signature"].split(" ")) == 2
    for secret in secrets:
        Webhook(secret).verify(BODY, headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(signing.new_secret()).verify(BODY, headers)


@pytest.mark.parametrize("changed", ["webhook-id", "webhook-timestamp", "body"])
def test_tampering_invalidates_signature(changed):
    secret, now = signing.new_secret(), int(time.time())
    headers = signing.headers([secret], ID, now, BODY)
    body = BODY
    if changed == "body":
        body = BODY.replace(b"Fels", b"Meer")
    else:
        headers[changed] = {"webhook-id": "another", "webhook-timestamp": str(now + 1)}[changed]

    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(body, headers)
