"""`local/text-to-image`: the operator's Diffusers pipeline. Runs in its own process."""

import inspect
import io
import os
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from PIL import Image

from app.media_generator.local_media_generator.computing import UnsafeContentError, serve
from app.media_generator.local_media_generator.messages import Order
from app.media_generator.local_media_generator.offers import LocalSettings


class Pipeline:
    """The loaded pipeline."""

    def __init__(self, settings: LocalSettings) -> None:
        _disable_hub_calls(offline=settings.local_files_only)
        self._torch: Any = import_module("torch")  # an extra
        diffusers: Any = import_module("diffusers")
        for library in (diffusers, import_module("transformers")):
            library.utils.logging.disable_progress_bar()  # the worker's log is machine-readable
        device = _device(self._torch) if settings.device == "auto" else settings.device
        # Half precision only on devices that are faster with it.
        kind = self._torch.float32 if device == "cpu" else self._torch.float16
        # Loads the class that the folder names; the auto classes import every existing pipeline.
        load = diffusers.DiffusionPipeline.from_pretrained
        self._pipe: Any = load(settings.pipeline, local_files_only=settings.local_files_only, dtype=kind)
        self._parameters = inspect.signature(self._pipe.__call__).parameters
        _check(type(self._pipe).__name__, self._parameters)
        self._pipe.to(device)
        self._pipe.set_progress_bar_config(disable=True)

    def make(self, order: Order, report: Callable[[float], None]) -> bytes:
        """See `Model`."""
        given = order.input
        steps: int = given["steps"]

        def after(_pipe: object, step: int, _time: object, values: dict[str, Any]) -> dict[str, Any]:
            report(0.05 + 0.9 * min((step + 1) / steps, 1))
            return values

        arguments = {
            "prompt": order.prompt,
            "negative_prompt": given["negative_prompt"] or None,
            "width": given["width"],
            "height": given["height"],
            "num_inference_steps": steps,
            "guidance_scale": given["guidance"],
            # Drawn on the CPU, so that a seed gives the same numbers on every device.
            "generator": self._torch.Generator("cpu").manual_seed(given["seed"]),
            "callback_on_step_end": after,
        }
        return _encode(picture_of(self._pipe(**self._supported(arguments))), given["output_format"])

    def _supported(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in arguments.items() if name in self._parameters}


def picture_of(result: Any) -> Image.Image:
    """The picture in a pipeline's result.

    Raises:
        UnsafeContentError: The safety checker replaced it by a black one.
    """
    flags = getattr(result, "nsfw_content_detected", None)
    if flags is not None and flags[0]:
        raise UnsafeContentError("the pipeline's safety checker rejected the result")
    picture: Image.Image = result.images[0]
    return picture


def _disable_hub_calls(*, offline: bool) -> None:
    """Disable telemetry and hub requests; must run before the libraries are imported."""
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    if offline:
        os.environ["HF_HUB_OFFLINE"] = "1"


def _check(name: str, parameters: Mapping[str, inspect.Parameter]) -> None:
    """Refuse a pipeline that does not make a picture from a prompt alone.

    Raises:
        ValueError: It needs other inputs, or makes something else.
    """
    missing = {"prompt", "num_inference_steps", "callback_on_step_end"} - set(parameters)
    needed = {
        name for name, one in parameters.items() if one.default is one.empty and one.kind is one.POSITIONAL_OR_KEYWORD
    }
    if missing or needed - {"prompt"} or "num_frames" in parameters:
        raise ValueError(f"{name} does not make a picture from a prompt alone, step by step")


def _device(torch: Any) -> str:
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _encode(picture: Image.Image, output_format: str) -> bytes:
    buffer = io.BytesIO()
    if output_format == "png":
        picture.save(buffer, "PNG", compress_level=3)
    else:
        picture.save(buffer, "WEBP", quality=90, method=2)
    return buffer.getvalue()


if __name__ == "__main__":
    serve(lambda: Pipeline(LocalSettings.model_validate_json(sys.argv[1])))
