"""The walks of docs/architecture/2-flow.md: how many files one reads to follow a request, or a job."""

from tests.walks import Walk


async def test_request(client):
    for _ in range(3):
        await client.generate(model="dummy/painter", input={"width": 64, "height": 64})
    with Walk("generate"):
        await client.generate(model="dummy/painter", input={"width": 64, "height": 64})


async def test_job(product):
    await product.until(await product.generate(model="dummy/painter", input={"width": 64, "height": 64}))
    with Walk("Runner._claim", "Runner._run", "Submitter._submit", "GroupCommit._run"):
        await product.until(await product.generate(model="dummy/painter", input={"width": 64, "height": 64}))
