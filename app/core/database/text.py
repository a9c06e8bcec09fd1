"""Makes foreign text storable: PostgreSQL accepts neither U+0000 nor half of a surrogate pair."""

from typing import Any


def storable(value: Any) -> Any:
    """The same JSON value without characters that cannot be stored, keys included."""
    if isinstance(value, str):
        return value.replace("\x00", "").encode(errors="replace").decode()
    if isinstance(value, dict):
        return {storable(key): storable(item) for key, item in value.items()}  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, list | tuple):
        return [storable(item) for item in value]  # pyright: ignore[reportUnknownVariableType]
    return value
