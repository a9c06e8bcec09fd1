"""Outputs on their way into the store."""

import pytest


@pytest.mark.parametrize(("wrong", "message"), [("text", "no picture"), ("truncated", "cut off")])
async def test_output_that_is_no_complete_picture_fails_the_media(product, wrong, message):
    done = await product.until(await product.faulty(wrong_bytes=wrong))

    assert (done["status"], done["error"]["code"], done["files"]) == ("ERROR", "output_invalid", [])
    assert message in done["error"]["message"]


async def test_large_output_is_stored_completely(product):
    done = await product.until(await product.faulty(size=20_000_000))

    assert done["status"] == "COMPLETED"
    assert done["files"][0]["bytes"] > 19_000_000
