"""What the tests of the provider `cog` share: accounts that are called back, submissions and answers."""

import json

from app.core.ids import new_id
from app.media_generator.accounts import Account, ProviderSetup
from app.media_generator.cog_media_generator.provider import CogMediaGeneratorModel
from fleek.providers import Submission
from tests.providers.server import respond_with

GOOD = json.dumps({"status": "succeeded", "output": ["data:text/plain;base64,aGVsbG8="]}).encode()


def account(url, http, vault, **variables):
    settings = {"base_url": url, "callback_url": "http://api.test", **variables}
    return CogMediaGeneratorModel.open_account(ProviderSetup(Account("cog", settings), http, (), vault))


def health(status="READY", start="first"):
    return respond_with(json.dumps({"status": status, "setup": {"started_at": start}}).encode())


def new_submission():
    return Submission(new_id(), 1, "model", "a lighthouse", {}, callback_url="http://api.test/x")
