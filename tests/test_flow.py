"""The walks in docs/architecture/2-flow.md: how many functions and files one reads to follow a request, or a job."""

import os
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from app.media_generator.dummy_media_generator.provider import DummyMediaGeneratorModel
from tests.walks import Hop, Walk, table

PAGE = Path(__file__).parents[1] / "docs" / "architecture" / "2-flow.md"
PICTURE = {"model": "dummy/painter", "input": {"width": 64, "height": 64}}


async def test_walk_of_a_request_is_documented_and_short(client):
    for _ in range(3):  # What is only done once is done.
        await client.generate(**PICTURE)
    with Walk("generate") as walk:
        await client.generate(**PICTURE)

    _compare("request", walk.hops)
    assert len(walk.hops) <= 20
    assert len({hop.file for hop in walk.hops}) <= 9


class Patient(DummyMediaGeneratorModel):
    """A machine under load may take longer than a second to store an intent."""

    capabilities = replace(DummyMediaGeneratorModel.capabilities, submit_timeout=timedelta(minutes=1))


async def test_walk_of_a_job_is_documented_and_short(client, working):
    await working(Patient())
    walk = Walk("Runner._claim", "Runner._run", "Submitter._submit", "GroupCommit._run")
    for _ in range(4):  # One that is fast enough has no progress to report.
        with walk:
            await client.until(await client.generate(**PICTURE))

    _compare("job", walk.hops)
    assert len(walk.hops) <= 75
    assert len({hop.file for hop in walk.hops}) <= 21


def _compare(name: str, hops: list[Hop]) -> None:
    """The page has this walk; with UPDATE_WALKS=1 it is written there."""
    begin, end = f"<!-- walk of a {name} -->\n\n", f"\n\n<!-- end of the walk of a {name} -->"
    before, _, rest = PAGE.read_text().partition(begin)
    documented, _, after = rest.partition(end)
    if os.environ.get("UPDATE_WALKS"):
        documented = table(hops)
        PAGE.write_text(before + begin + documented + end + after)
    # Which of two tasks goes first is left to chance.
    missing = {hop.function for hop in hops} - set(documented.replace("|", "`").split("`"))
    gone = [line for line in documented.splitlines()[2:] if line.split("`")[-2] not in {hop.function for hop in hops}]
    assert not missing | set(gone), "UPDATE_WALKS=1 uv run pytest tests/test_flow.py writes the page"
