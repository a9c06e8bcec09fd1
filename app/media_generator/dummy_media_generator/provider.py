"""The provider `dummy`: free, without a key; it paints real pictures and simulates failures."""

import random
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, ClassVar, Final

import msgspec

from app.core import clock
from app.media_generator.dummy_media_generator import plan as plans
from app.media_generator.dummy_media_generator.orders import STYLES, Order, Painting
from app.media_generator.dummy_media_generator.png import png_of_about
from app.media_generator.dummy_media_generator.studio import Studio
from app.media_generator.errors import AnswerLostError, Sent
from app.media_generator.media_generator_model import (
    CancelAnswer,
    Canceled,
    Capabilities,
    Failed,
    MediaGeneratorModel,
    Outcome,
    Output,
    Reference,
    Running,
    Submission,
    Succeeded,
)
from app.media_generator.model_card import ModelCard

CHUNK_BYTES: Final = 64 * 1024
STOPPING_KEPT: Final = 1000
"""Number of canceled orders that are remembered."""

PAINTER: Final = ModelCard(
    name="painter",
    title="Procedural painter",
    description="Paints a picture for a prompt by arithmetic alone: the same prompt and seed give the same pixels.",
    output_types=("image/png", "image/webp", "image/jpeg"),
    trained=False,
    input_schema={
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "width": {
                "type": "integer",
                "minimum": 64,
                "maximum": 2048,
                "default": 1024,
                "description": "Pixels.",
            },
            "height": {
                "type": "integer",
                "minimum": 64,
                "maximum": 2048,
                "default": 1024,
                "description": "Pixels.",
            },
            "seed": {
                "type": "integer",
                "minimum": 0,
                "maximum": 4_294_967_295,
                "description": "The same seed and prompt give the same pixels; drawn at random if not given.",
            },
            "style": {
                "enum": sorted(STYLES),
                "description": "The style; chosen by the prompt if not given.",
            },
            "num_outputs": {
                "type": "integer",
                "minimum": 1,
                "maximum": 8,
                "default": 1,
                "description": "Number of pictures.",
            },
            "output_format": {
                "enum": ["png", "webp", "jpeg"],
                "default": "png",
                "description": "Format of the file.",
            },
        },
    },
    example={"width": 768, "height": 512, "seed": 7, "output_format": "webp"},
    version="1",
    local=True,
)

FAULTY: Final = ModelCard(
    name="faulty",
    title="Failures on demand",
    description="Returns a grey picture, after the failures that its input requests.",
    output_types=("image/png",),
    trained=False,
    input_schema=plans.SCHEMA,
    example={"delay": 2, "fail_times": 1, "fail_with": "busy"},
    version="1",
    time_limit=timedelta(hours=2),
)


class DummyMediaGeneratorModel(MediaGeneratorModel):
    """Two models: `painter` for pictures, `faulty` for failures. References hold the complete order."""

    name: str = "dummy"
    capabilities: ClassVar[Capabilities] = Capabilities(
        cancel=True,
        cancel_stops_billing=True,
        findable=True,
        progress=True,
        max_outputs=8,
        submit_timeout=timedelta(seconds=1),
    )

    def __init__(self) -> None:
        self._studio = Studio()
        self._stopping: OrderedDict[str, None] = OrderedDict()
        """Canceled orders, for `poll`; a crash forgets them, and then they finish."""

    def models(self) -> Sequence[ModelCard]:
        """See the base class."""
        return (PAINTER, FAULTY)

    def complete_input(self, model: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """Fill in defaults, and draw a seed for the painter if none is given."""
        complete = super().complete_input(model, given)
        if model == PAINTER.name:
            complete.setdefault("seed", random.getrandbits(32))  # not a secret
        return complete

    async def submit(self, submission: Submission) -> Reference:
        """See the base class; nothing is sent anywhere."""
        if submission.model == FAULTY.name:
            plan = dict(submission.input)
            if submission.number == 1 and plan.get("lose_answer", "no") != "no":
                raise AnswerLostError("simulated loss of the answer, as the input requests")
            planned = plans.planned_error(plan)
            if submission.number <= plan.get("fail_times", 0) and planned.sent is not Sent.YES:
                raise planned
        return _reference(submission)

    async def find(self, submission: Submission, since: datetime) -> Reference | None:  # noqa: ARG002 - references are deterministic, nothing is looked up
        """See the base class; the input may request that there is no purchase, or that it is unknown."""
        if submission.model == FAULTY.name:
            lost = submission.input.get("lose_answer", "no")
            if lost == "unknown" or submission.number <= submission.input.get("fail_times", 0):
                raise AnswerLostError("simulated failure of the lookup, as the input requests")
            if lost == "not_taken":
                return None
        return _reference(submission)

    async def cancel(self, reference: Reference) -> CancelAnswer:
        """See the base class; `poll` then reports that nothing was billed."""
        if reference.data["model"] == FAULTY.name:
            answer = CancelAnswer(reference.data["input"].get("on_cancel", "canceled"))
            if answer is not CancelAnswer.REQUESTED:
                return answer
        self._stopping[reference.external_id] = None
        if len(self._stopping) > STOPPING_KEPT:
            self._stopping.popitem(last=False)
        return CancelAnswer.REQUESTED

    async def poll(self, reference: Reference) -> Outcome:
        """See the base class."""
        if reference.external_id in self._stopping:
            return Canceled(cost=Decimal(0))
        if reference.data["model"] == FAULTY.name:
            return _follow_plan(reference)
        works = [self._studio.work(order) for order in _orders(reference)]
        if all(work.file.done() for work in works):
            return Succeeded(tuple(Output(_location(reference, index)) for index in range(len(works))))
        progress = sum(work.progress for work in works) / len(works)
        return Running(progress, wait=timedelta(milliseconds=50))

    async def open(self, output: Output) -> AsyncIterator[bytes]:
        """See the base class."""
        location: dict[str, Any] = msgspec.json.decode(output.location)
        reference = msgspec.convert(location["reference"], Reference)
        if reference.data["model"] == FAULTY.name:
            file = _faulty_file(reference.data["input"])
        else:
            index: int = location["index"]
            file = await self._studio.fetch(_orders(reference)[index])
        for start in range(0, len(file), CHUNK_BYTES):
            yield file[start : start + CHUNK_BYTES]

    async def close(self) -> None:
        """See the base class."""
        self._studio.close()


def _reference(submission: Submission) -> Reference:
    order = {
        "model": submission.model,
        "number": submission.number,
        "prompt": submission.prompt,
        "input": dict(submission.input),
        "submitted_at": clock.timestamp(),
    }
    return Reference(external_id=f"dummy-{submission.attempt_id}", data=order)


def _location(reference: Reference, index: int) -> str:
    return msgspec.json.encode({"reference": reference, "index": index}).decode()


def _orders(reference: Reference) -> list[Order]:
    given = reference.data["input"]
    return [
        Order(
            Painting(
                prompt=reference.data["prompt"],
                seed=given["seed"] + index,
                width=given["width"],
                height=given["height"],
                style=given.get("style"),
            ),
            given["output_format"],
        )
        for index in range(given["num_outputs"])
    ]


def _follow_plan(reference: Reference) -> Outcome:
    plan: dict[str, Any] = reference.data["input"]
    delay, passed = plan.get("delay", 0), clock.timestamp() - reference.data["submitted_at"]
    if plan.get("hang") or passed < delay:
        wait = 10.0 if plan.get("hang") else delay - passed
        return Running(min(passed / delay, 0.99) if delay else None, wait=timedelta(seconds=min(wait, 10.0)))
    planned = plans.planned_error(plan)
    if reference.data["number"] <= plan.get("fail_times", 0) and planned.sent is Sent.YES:
        return Failed(planned)
    return Succeeded(tuple(Output(_location(reference, index)) for index in range(plan.get("num_outputs", 1))))


def _faulty_file(plan: Mapping[str, Any]) -> bytes:
    wrong = plan.get("wrong_bytes", "no")
    if wrong == "text":
        return b"not a picture, as the input requests\n" * 40
    file = png_of_about(plan.get("size", 10_000))
    return file[: len(file) // 2] if wrong == "truncated" else file
