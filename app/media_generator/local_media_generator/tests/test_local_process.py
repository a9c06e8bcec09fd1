"""The compute process: orders in sequence, canceled between steps, replaced when it dies, ended with its worker."""

import asyncio
import sys
from asyncio.subprocess import PIPE
from types import SimpleNamespace

import psutil
import pytest

from app.core.database.migrations import ROOT
from app.media_generator.errors import ContentStoppedError, GenerationFailedError
from app.media_generator.local_media_generator import process
from app.media_generator.local_media_generator.computing import UnsafeContentError
from app.media_generator.local_media_generator.messages import Order
from app.media_generator.local_media_generator.pipeline import picture_of
from app.media_generator.local_media_generator.process import ComputeProcess
from tests.support import eventually

MODEL = "tests.providers.scripted_model"


@pytest.fixture
async def computing(monkeypatch):
    monkeypatch.chdir(ROOT)  # so that `tests` can be imported
    made = ComputeProcess(MODEL, idle_seconds=600)
    yield made
    await made.close()


def nothing(_share):
    return


async def made_by(computing, prompt, report=nothing, **order):
    return (await computing.make(Order(prompt, {}, **order), report)).decode()


async def started(computing, prompt):
    """An order, as soon as its process is working on it."""
    shares = []
    task = asyncio.create_task(made_by(computing, prompt, shares.append))
    await eventually(lambda: asyncio.sleep(0, shares), lambda seen: 0.5 in seen)
    return task


async def gone(pid):
    await eventually(lambda: asyncio.sleep(0, not psutil.pid_exists(pid)))


async def test_process_starts_with_the_first_order(computing):
    assert computing.pid is None

    assert await made_by(computing, "a") == "a {} 0"
    assert computing.pid is not None


async def test_orders_run_one_at_a_time_in_sequence(computing):
    answers = await asyncio.gather(*(made_by(computing, f"{number}") for number in range(20)))

    assert answers == [f"{number} {{}} 0" for number in range(20)]


async def test_large_picture_arrives_complete(computing):
    assert await made_by(computing, "a", picture=bytes(30_000_000)) == "a {} 30000000"


async def test_output_printed_by_libraries_does_not_disturb_the_protocol(computing):
    assert await made_by(computing, "print") == "print {} 0"


async def test_failed_order_does_not_end_the_process(computing):
    await made_by(computing, "a")
    before = computing.pid
    with pytest.raises(GenerationFailedError, match="ArithmeticError: no such colour"):
        await made_by(computing, "fail")

    assert await made_by(computing, "b") == "b {} 0"
    assert computing.pid == before


async def test_safety_checker_rejection_is_content_stopped(computing):
    with pytest.raises(ContentStoppedError, match="rejected by the checker"):
        await made_by(computing, "make something unsafe")

    assert await made_by(computing, "a") == "a {} 0"


@pytest.mark.parametrize("flags", [None, [False]])
def test_unflagged_picture_is_the_result(flags):
    assert picture_of(SimpleNamespace(images=["a picture"], nsfw_content_detected=flags)) == "a picture"
    assert picture_of(SimpleNamespace(images=["a picture"])) == "a picture"


def test_flagged_picture_is_not_a_result():
    with pytest.raises(UnsafeContentError):
        picture_of(SimpleNamespace(images=["all black"], nsfw_content_detected=[True]))


async def test_process_death_fails_only_its_order(computing):
    orders = [asyncio.create_task(made_by(computing, prompt)) for prompt in ("die", "a", "b")]

    with pytest.raises(GenerationFailedError, match="exit code 3"):
        await orders[0]
    assert await asyncio.gather(*orders[1:]) == ["a {} 0", "b {} 0"]


async def killed(computing, shares):
    """Kill the working process; return when the next one is working on the same order, from its start."""
    before = computing.pid
    shares.clear()
    psutil.Process(before).kill()
    # Its last messages may still arrive: only those after the 0 are from the next process.
    await eventually(lambda: asyncio.sleep(0, shares), lambda told: 0 in told and told[-1] == 0.5)
    assert computing.pid != before


async def test_order_of_a_killed_process_is_restarted_in_a_new_one(computing):
    shares = []
    order = asyncio.create_task(made_by(computing, "run forever", shares.append))
    await eventually(lambda: asyncio.sleep(0, shares), lambda seen: 0.5 in seen)

    await killed(computing, shares)

    order.cancel()
    await asyncio.wait([order])
    assert await made_by(computing, "a") == "a {} 0"


async def test_order_fails_after_repeated_process_deaths(computing):
    shares = []
    order = asyncio.create_task(made_by(computing, "run forever", shares.append))
    await eventually(lambda: asyncio.sleep(0, shares), lambda seen: 0.5 in seen)
    for _ in range(process.MAX_DEATHS - 1):
        await killed(computing, shares)

    psutil.Process(computing.pid).kill()

    with pytest.raises(GenerationFailedError, match="signal 9"):
        await order
    assert await made_by(computing, "a") == "a {} 0"


async def test_load_error_details_go_only_to_the_operators_log(monkeypatch, capfd):
    monkeypatch.chdir(ROOT)
    computing = ComputeProcess(MODEL, ("cannot load",), idle_seconds=600)

    for _ in range(2):
        with pytest.raises(GenerationFailedError, match=r"^the model cannot be loaded \(FileNotFoundError\)") as failed:
            await made_by(computing, "a")

    assert "/srv" not in failed.value.message
    assert capfd.readouterr().err.count("FileNotFoundError: /srv/models is empty") == 2
    await computing.close()


async def test_death_of_an_idle_process_fails_no_order(computing):
    await made_by(computing, "a")
    before = computing.pid
    psutil.Process(before).kill()
    await gone(before)

    assert await made_by(computing, "b") == "b {} 0"


async def test_canceled_order_stops_at_its_next_step_and_keeps_the_process(computing):
    order = await started(computing, "run forever")
    before = computing.pid

    order.cancel()

    with pytest.raises(asyncio.CancelledError):
        await order
    assert await made_by(computing, "a") == "a {} 0"
    assert computing.pid == before


async def test_waiting_order_is_canceled_immediately(computing):
    first = await started(computing, "run forever")
    second = asyncio.create_task(made_by(computing, "b"))
    await asyncio.sleep(0)

    second.cancel()

    with pytest.raises(asyncio.CancelledError):
        await second
    assert not first.done()
    first.cancel()
    await asyncio.wait([first])


async def test_unresponsive_process_is_killed_on_cancel(computing, monkeypatch):
    monkeypatch.setattr(process, "STOP_SECONDS", 0.1)
    order = await started(computing, "ignore messages")
    before = computing.pid

    order.cancel()

    await asyncio.wait([order])
    await gone(before)
    assert await made_by(computing, "a") == "a {} 0"


async def test_idle_process_ends(monkeypatch):
    monkeypatch.chdir(ROOT)
    computing = ComputeProcess(MODEL, idle_seconds=0.05)
    await made_by(computing, "a")

    await eventually(lambda: asyncio.sleep(0, computing.pid is None))
    assert await made_by(computing, "b") == "b {} 0"
    await computing.close()


async def test_process_environment_has_no_secrets(computing, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("REPLICATE_API_TOKEN", "secret")
    monkeypatch.setenv("HF_HOME", "/somewhere")

    seen = (await made_by(computing, "show the environment")).splitlines()

    assert "HF_HOME" in seen
    assert not {"AWS_SECRET_ACCESS_KEY", "REPLICATE_API_TOKEN"} & set(seen)


WORKER = f"""
import asyncio
from app.media_generator.local_media_generator.messages import Order
from app.media_generator.local_media_generator.process import ComputeProcess

async def work():
    computing = ComputeProcess("{MODEL}", idle_seconds=600)
    def report(share):
        if share == 0.5:
            print(computing.pid, flush=True)
    await computing.make(Order("ignore messages", {{}}), report)

asyncio.run(work())
"""


async def test_process_ends_with_a_killed_worker():
    worker = await asyncio.create_subprocess_exec(sys.executable, "-c", WORKER, cwd=ROOT, stdout=PIPE)
    while not (line := await worker.stdout.readline()).strip().isdigit():
        assert line, "it ended too early"

    worker.kill()

    await worker.wait()
    await gone(int(line))
