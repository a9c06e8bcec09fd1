"""The catalogue: models as data. What a provider's adapter does not know by itself stands in files.

Each kind of provider may bring `models.json` in its package; the operator's file adds to it and changes it.
"""

from collections.abc import Sequence
from importlib.resources import files

import msgspec

from app.media_generator.cards import ModelCard


class _File(msgspec.Struct, forbid_unknown_fields=True):
    models: list[ModelCard]


class Catalogue:
    """Everything that files say of models."""

    def models(self, kind: str, account: str) -> Sequence[ModelCard]:  # noqa: ARG002 - the operator's file will ask
        """The models of an account of this kind."""
        return _shipped(kind)


def _shipped(kind: str) -> list[ModelCard]:
    folder = files("app.media_generator") / f"{kind.replace('-', '_')}_media_generator"
    found = folder / "models.json"
    if not found.is_file():
        return []
    return msgspec.json.decode(found.read_bytes(), type=_File).models
