"""The provider `comfyui`: the operator's own ComfyUI server; each workflow in a folder is a model.

A job has the attempt's id as its name, so that it can be found even if the answer to its submission was lost: it is in
the server's queue, then running, then in the history. A server that was restarted has forgotten earlier jobs.
"""

import hashlib
import random
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, Final, Self

from pydantic import Field

from app.core.http_client.protocol import Http
from app.media_generator.accounts import ProviderSettings, ProviderSetup
from app.media_generator.adapter_kit.lenient_json import error_text, members
from app.media_generator.comfyui_media_generator.server import (
    Server,
    belongs_to,
    failure_message,
    output_files,
    tells_attempt,
)
from app.media_generator.comfyui_media_generator.workflows import LARGEST_SEED, fill_in, graph_of, read_folder
from app.media_generator.errors import (
    GenerationFailedError,
    InputRefusedError,
    ModelGoneError,
    OutputError,
    UnreadableAnswerError,
)
from app.media_generator.media_generator_model import (
    CancelAnswer,
    Canceled,
    Capabilities,
    Failed,
    InputFile,
    MediaGeneratorModel,
    Outcome,
    Output,
    Reference,
    Running,
    Submission,
    Succeeded,
)
from app.media_generator.model_card import Json, ModelCard

LARGEST_UPLOAD: Final = 64 * 1024 * 1024
"""In bytes; by default a server accepts 100 MB."""


class ComfyUISettings(ProviderSettings):
    """Settings of one ComfyUI server."""

    base_url: str = Field(pattern=r"^https?://[^\s]+$")
    """Address of the server, such as `http://127.0.0.1:8188`."""
    workflows: Path
    """Folder with the workflows: for each a `name.json`, exported for the API, and a `name.toml`."""
    api_token: str | None = None
    """Sent as bearer token, for servers behind a proxy that requires one."""
    timeout_seconds: float = Field(default=30.0, gt=0, le=55)
    """Time limit of one call, in seconds."""


class ComfyUIMediaGeneratorModel(MediaGeneratorModel):
    """Submits to ``POST /prompt``, polls ``/history`` and ``/queue``, and fetches from ``/view``."""

    capabilities: ClassVar[Capabilities] = Capabilities(
        cancel=True,
        cancel_stops_billing=True,
        findable=True,
        progress=True,
        max_outputs=64,
        uploads=True,
    )

    def __init__(self, name: str, http: Http, settings: ComfyUISettings) -> None:
        self.name = name
        self._server = Server(
            name, http, settings.base_url.rstrip("/"), settings.api_token, timeout=settings.timeout_seconds
        )
        self._cards = {card.name: card for card in read_folder(settings.workflows)}

    @classmethod
    def open_account(cls, setup: ProviderSetup) -> Self:
        """See the base class; the folder is read once."""
        return cls(setup.account.name, setup.http, setup.account.read(ComfyUISettings))

    def models(self) -> Sequence[ModelCard]:
        """See the base class."""
        return tuple(self._cards.values())

    def complete_input(self, model: str, given: Mapping[str, Json]) -> dict[str, Json]:
        """Fill in defaults, and draw the inputs that the sheet marks as random."""
        complete = super().complete_input(model, given)
        card = self._cards[model]
        for name in graph_of(card).random:
            if name not in complete:
                rule = card.input_schema["properties"][name]
                lowest, highest = rule.get("minimum", 0), rule.get("maximum", LARGEST_SEED)
                complete[name] = random.randint(lowest, highest)  # noqa: S311 - not a secret
        return complete

    async def submit(self, submission: Submission) -> Reference:
        """See the base class."""
        card = self._cards.get(submission.model)
        if card is None:
            raise ModelGoneError(f"{self.name} has no workflow {submission.model!r}")
        graph = graph_of(card)
        nodes = fill_in(graph, submission.prompt, submission.input)
        external_id = await self._server.queue_prompt(nodes, str(submission.attempt_id))
        return _reference(external_id, graph.outputs)

    async def find(self, submission: Submission, since: datetime) -> Reference | None:  # noqa: ARG002 - the id is enough
        """See the base class; checks queue before history, the order in which a job moves, so that none is missed."""
        card = self._cards.get(submission.model)
        outputs = graph_of(card).outputs if card is not None else []
        ours = str(submission.attempt_id)
        queued = await self._server.queue_entry(ours, by_attempt=True)
        if queued is not None:
            return _reference(queued.external_id, outputs)
        if await self._server.history(ours) is not None:
            return _reference(ours, outputs)
        recent = await self._server.recent_history()
        for external_id, entry in recent.items():
            if belongs_to(entry, ours):
                return _reference(external_id, outputs)
        if not all(tells_attempt(members(entry).get("prompt")) for entry in recent.values()):
            raise UnreadableAnswerError(f"{self.name} has a job in its history that may be this one")
        return None

    async def poll(self, reference: Reference) -> Outcome:
        """See the base class."""
        wanted = reference.external_id
        entry = await self._server.history(wanted)
        if entry is not None:
            return self._result(entry, reference)
        queued = await self._server.queue_entry(wanted)
        if queued is not None and queued.ahead is not None:
            return Running(0.0, log=f"waiting in the queue, {queued.ahead} ahead")
        if queued is not None:
            return Running(log="running")
        # It may have finished between the two calls.
        entry = await self._server.history(wanted)
        if entry is not None:
            return self._result(entry, reference)
        return Failed(
            GenerationFailedError(
                f"{self.name} no longer has the job: it was restarted, or the job was removed by hand"
            )
        )

    async def cancel(self, reference: Reference) -> CancelAnswer:
        """See the base class: removes a waiting job from the queue, interrupts a running one."""
        wanted = reference.external_id
        await self._server.dequeue(wanted)
        if await self._server.queue_entry(wanted) is not None:
            await self._server.interrupt(wanted)
            return CancelAnswer.REQUESTED
        if await self._server.history(wanted) is not None:
            return CancelAnswer.TOO_LATE
        return CancelAnswer.CANCELED

    def open(self, output: Output) -> AsyncIterator[bytes]:
        """See the base class."""
        return self._server.view(output.location)

    async def upload(self, file: InputFile) -> str:
        """See the base class; the name is derived from the content, so that a file is stored once."""
        if file.size > LARGEST_UPLOAD:
            raise InputRefusedError(f"{self.name} accepts input files of at most {LARGEST_UPLOAD} bytes")
        content = bytearray()
        async for chunk in file.chunks():
            content += chunk
        digest = hashlib.sha256(content).hexdigest()[:32]
        name = digest + PurePosixPath(file.name).suffix
        return await self._server.upload(name, file.media_type, bytes(content))

    def _result(self, entry: Mapping[str, Any], reference: Reference) -> Outcome:
        failure = failure_message(entry)
        if failure is not None and failure[0] == "execution_interrupted":
            return Canceled()
        error = None if failure is None else f"{self.name}: {_node_error(failure[1])}"
        # What was saved before a node failed is the result; previews are not.
        found = output_files(entry, reference.data["outputs"], self._server.url, saved_only=error is not None)
        if found:
            return Succeeded(tuple(map(Output, found)), log=error)
        if error is not None:
            return Failed(GenerationFailedError(error))
        return Failed(OutputError(f"{self.name}: no node of the workflow saved a file"))


def _reference(external_id: str, outputs: Sequence[str]) -> Reference:
    return Reference(external_id, {"outputs": list(outputs)})


def _node_error(details: Mapping[str, Any]) -> str:
    """The failed node and its message; traceback and inputs are not shown to the media's owner."""
    message = error_text(details.get("exception_message")) or "the workflow failed"
    if "node_id" not in details:
        return message
    return f"node {details['node_id']} ({details.get('node_type', '?')}): {message}"
