"""Errors of the files that an input names."""

from collections.abc import Mapping, Sequence
from typing import Any

from app.core.errors import InvalidInputError


class InputFileError(InvalidInputError):
    """The request's input names a file that is not there or cannot be used."""

    code = "invalid_input_file"
    title = "Invalid input file"

    def __init__(self, errors: Sequence[Mapping[str, Any]]) -> None:
        super().__init__("; ".join(f"{wrong['field']} {wrong['message']}" for wrong in errors), errors=errors)
