"""Rows of queries as typed values."""

import msgspec


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A row of one query: its fields are named like the columns of the SELECT.

    `DatabasePool.fetch_as` makes them, and refuses a statement that has other columns. JSON columns hold JSON text.
    """

    @classmethod
    def columns(cls, table: str = "") -> str:
        """The columns for a SELECT whose fields are all plain columns of `table`, an alias."""
        prefix = f"{table}." if table else ""
        return ", ".join(f"{prefix}{name}" for name in cls.__struct_fields__)
