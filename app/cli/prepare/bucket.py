"""Creates the bucket if it is missing: `python -m app.cli.prepare.bucket`, with the settings of its environment."""

import asyncio
import sys

from app.core.errors import SettingsError
from app.core.load_settings import load_settings
from app.storage.s3 import S3Store
from app.storage.store import ObjectNotFoundError, StoreError


async def prepare() -> None:
    """Check first: a key that may use the bucket need not be allowed to create it."""
    store = S3Store(load_settings())
    try:
        await store.check()
    except ObjectNotFoundError:
        await store.prepare()


def main() -> int:
    """The exit status; the reason is printed on standard error."""
    try:
        asyncio.run(prepare())
    except (StoreError, SettingsError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
