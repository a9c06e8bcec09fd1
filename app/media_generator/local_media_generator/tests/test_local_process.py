"""The process that computes: orders in turn, given up between steps, replaced when it dies, gone with its worker."""

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

MODEL = "tests.providers.obedient_model"


@pytest.fixture
async def computing(monkeypatch):
    monkeypatch.chdir(ROOT)  # from where `tests` can be imported
    made = ComputeProcess(MODEL, idle_seconds=600)
    yield made
    await made.close()


def nothing(_share):
    return


async def made_by(computing, prompt, tell=nothing, **order):
    return (await computing.make(Order(prompt, {}, **order), tell)).decode()


async def begun(computing, prompt):
    """An order, as soon as its process is at work on it."""
    shares = []
    task = asyncio.create_task(made_by(computing, prompt, shares.append))
    await eventually(lambda: asyncio.sleep(0, shares), lambda told: 0.5 in told)
    return task


async def gone(pid):
    await eventually(lambda: asyncio.sleep(0, not psutil.pid_exists(pid)))


async def test_nothing_is_started_before_there_is_an_order(computing):
    assert computing.pid is None

    assert await made_by(computing, "a") == "a {} 0"
    assert computing.pid is not None


async def test_one_process_works_on_one_order_after_the_other(computing):
    answers = await asyncio.gather(*(made_by(computing, f"{number}") for number in range(20)))

    assert answers == [f"{number} {{}} 0" for number in range(20)]


async def test_a_large_picture_arrives_whole(computing):
    assert await made_by(computing, "a", picture=bytes(30_000_000)) == "a {} 30000000"


async def test_what_libraries_print_does_not_get_between_the_answers(computing):
    assert await made_by(computing, "print") == "print {} 0"


async def test_a_model_that_fails_says_so_and_goes_on(computing):
    await made_by(computing, "a")
    before = computing.pid
    with pytest.raises(GenerationFailedError, match="ArithmeticError: no such colour"):
        await made_by(computing, "fail")

    assert await made_by(computing, "b") == "b {} 0"
    assert computing.pid == before


async def test_what_the_models_own_checker_stops_is_told_as_such(computing):
    with pytest.raises(ContentStoppedError, match="it shows too much"):
        await made_by(computing, "make what must not be seen")

    assert await made_by(computing, "a") == "a {} 0"


@pytest.mark.parametrize("flags", [None, [False]])
def test_a_picture_that_no_checker_flags_is_the_result(flags):
    assert picture_of(SimpleNamespace(images=["a picture"], nsfw_content_detected=flags)) == "a picture"
    assert picture_of(SimpleNamespace(images=["a picture"])) == "a picture"


def test_a_black_picture_of_a_safety_checker_is_no_result():
    with pytest.raises(UnsafeContentError):
        picture_of(SimpleNamespace(images=["all black"], nsfw_content_detected=[True]))


async def test_a_process_that_dies_takes_one_order_along(computing):
    orders = [asyncio.create_task(made_by(computing, prompt)) for prompt in ("die", "a", "b")]

    with pytest.raises(GenerationFailedError, match="exit code 3"):
        await orders[0]
    assert await asyncio.gather(*orders[1:]) == ["a {} 0", "b {} 0"]


async def killed(computing, shares):
    """Kill the process at work; back when the next one is at work on the same order, from its beginning."""
    before = computing.pid
    shares.clear()
    psutil.Process(before).kill()
    # What it said last may still be on its way: only what follows the 0 is of the next one.
    await eventually(lambda: asyncio.sleep(0, shares), lambda told: 0 in told and told[-1] == 0.5)
    assert computing.pid != before


async def test_an_order_whose_process_is_killed_is_begun_anew_in_another(computing):
    shares = []
    order = asyncio.create_task(made_by(computing, "go on for ever", shares.append))
    await eventually(lambda: asyncio.sleep(0, shares), lambda told: 0.5 in told)

    await killed(computing, shares)

    order.cancel()
    await asyncio.wait([order])
    assert await made_by(computing, "a") == "a {} 0"


async def test_an_order_at_which_one_process_after_the_other_dies_is_given_up(computing):
    shares = []
    order = asyncio.create_task(made_by(computing, "go on for ever", shares.append))
    await eventually(lambda: asyncio.sleep(0, shares), lambda told: 0.5 in told)
    for _ in range(process.MAX_DEATHS - 1):
        await killed(computing, shares)

    psutil.Process(computing.pid).kill()

    with pytest.raises(GenerationFailedError, match="signal 9"):
        await order
    assert await made_by(computing, "a") == "a {} 0"


async def test_why_a_model_cannot_be_loaded_is_for_the_operator(monkeypatch, capfd):
    monkeypatch.chdir(ROOT)
    computing = ComputeProcess(MODEL, ("unwilling",), idle_seconds=600)

    for _ in range(2):
        with pytest.raises(GenerationFailedError, match=r"^the model cannot be loaded \(FileNotFoundError\)") as failed:
            await made_by(computing, "a")

    assert "/srv" not in failed.value.message
    assert capfd.readouterr().err.count("FileNotFoundError: /srv/models is empty") == 2
    await computing.close()


async def test_a_process_killed_at_rest_costs_no_order(computing):
    await made_by(computing, "a")
    before = computing.pid
    psutil.Process(before).kill()
    await gone(before)

    assert await made_by(computing, "b") == "b {} 0"


async def test_an_order_is_given_up_between_two_steps_and_the_process_stays(computing):
    order = await begun(computing, "go on for ever")
    before = computing.pid

    order.cancel()

    with pytest.raises(asyncio.CancelledError):
        await order
    assert await made_by(computing, "a") == "a {} 0"
    assert computing.pid == before


async def test_an_order_that_waits_for_its_turn_is_given_up_at_once(computing):
    first = await begun(computing, "go on for ever")
    second = asyncio.create_task(made_by(computing, "b"))
    await asyncio.sleep(0)

    second.cancel()

    with pytest.raises(asyncio.CancelledError):
        await second
    assert not first.done()
    first.cancel()
    await asyncio.wait([first])


async def test_a_process_that_does_not_listen_is_killed(computing, monkeypatch):
    monkeypatch.setattr(process, "STOP_SECONDS", 0.1)
    order = await begun(computing, "be deaf")
    before = computing.pid

    order.cancel()

    await asyncio.wait([order])
    await gone(before)
    assert await made_by(computing, "a") == "a {} 0"


async def test_a_process_without_orders_gives_its_memory_back(monkeypatch):
    monkeypatch.chdir(ROOT)
    computing = ComputeProcess(MODEL, idle_seconds=0.05)
    await made_by(computing, "a")

    await eventually(lambda: asyncio.sleep(0, computing.pid is None))
    assert await made_by(computing, "b") == "b {} 0"
    await computing.close()


async def test_the_process_learns_no_secrets(computing, monkeypatch):
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
    def tell(share):
        if share == 0.5:
            print(computing.pid, flush=True)
    await computing.make(Order("be deaf", {{}}), tell)

asyncio.run(work())
"""


async def test_the_process_does_not_outlive_a_worker_that_is_killed():
    worker = await asyncio.create_subprocess_exec(sys.executable, "-c", WORKER, cwd=ROOT, stdout=PIPE)
    while not (line := await worker.stdout.readline()).strip().isdigit():
        assert line, "it ended too early"

    worker.kill()

    await worker.wait()
    await gone(int(line))
