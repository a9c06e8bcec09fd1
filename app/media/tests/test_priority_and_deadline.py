"""Invalid priorities and deadlines are refused."""

import pytest


@pytest.mark.parametrize("priority", [-1, 10, "5", 1.5, None])
async def test_invalid_priority_is_refused(client, priority):
    answer = await client.api.post("/media/generate", json={"prompt": "x", "priority": priority})

    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "priority")


@pytest.mark.parametrize("seconds", [0, -1, "60", 1e9, True])
async def test_invalid_deadline_is_refused(client, seconds):
    answer = await client.api.post("/media/generate", json={"prompt": "x", "deadline_seconds": seconds})

    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "deadline_seconds")
