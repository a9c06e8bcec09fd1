"""The S3 store on a real server: the contract of stores, and errors of its configuration."""

import pytest

from app.storage.s3 import S3Store
from app.storage.store import ObjectNotFoundError, StoreError, StoreUnavailableError
from app.storage.testing import StoreContract
from tests.support import make_settings


class TestS3(StoreContract):
    @pytest.fixture
    async def store(self, base_settings, template):
        return S3Store(base_settings)


async def test_missing_bucket_is_named(engines):
    store = S3Store(make_settings(engines, bucket_name="no-such-bucket"))

    with pytest.raises(ObjectNotFoundError, match="no-such-bucket"):
        await store.check()


async def test_wrong_key_says_what_to_check(engines, template):
    store = S3Store(make_settings(engines, aws_secret_access_key="wrong"))

    with pytest.raises(StoreError, match="check its keys"):
        await store.check()


async def test_unreachable_store_is_unavailable(engines):
    store = S3Store(make_settings(engines, s3_endpoint_url="http://127.0.0.1:9"))

    with pytest.raises(StoreUnavailableError):
        await store.check()
