"""Reads XMP that anybody may have written: no entities, no document types, and a limit on its size."""

from dataclasses import dataclass, field
from typing import Final
from uuid import UUID
from xml.parsers import expat

from app.provenance.errors import DamagedError, NoRoomError
from app.provenance.mark import IPTC_EXT, NAMESPACE, NEWSCODES, RDF, XMP_BASIC, Mark, SourceType

LARGEST: Final = 256 * 1024
"""Bytes of XMP that are read; a packet that is larger is left alone."""
_LONGEST_ABOUT: Final = 200
_LONGEST_VALUE: Final = 2_000
_SEPARATOR: Final = "\n"


@dataclass(slots=True)
class Properties:
    """What is of interest in a packet."""

    source_types: list[str] = field(default_factory=list[str])
    """Values of `Iptc4xmpExt:DigitalSourceType`."""
    tool: str = ""
    model: str = ""
    media_id: str = ""
    manifest: str = ""
    """The address of a C2PA manifest that is kept elsewhere (`dcterms:provenance`)."""
    about: str | None = None
    """The `rdf:about` of the first description."""
    end_of_rdf: int | None = None
    """Where `</rdf:RDF>` begins, in bytes; None: there is no such place."""

    @property
    def mark(self) -> Mark | None:
        """The mark of ours, if all of it is there."""
        names = [value.removeprefix(NEWSCODES) for value in self.source_types]
        known = [name for name in names if name in SourceType.__members__.values()]
        try:
            return Mark(SourceType(known[-1]), self.tool, self.model, UUID(self.media_id)) if known else None
        except ValueError:
            return None


_WANTED: Final = {
    f"{IPTC_EXT}{_SEPARATOR}DigitalSourceType": "source_types",
    f"{NAMESPACE}{_SEPARATOR}Tool": "own_tool",
    f"{XMP_BASIC}{_SEPARATOR}CreatorTool": "tool",
    f"{NAMESPACE}{_SEPARATOR}Model": "model",
    f"{NAMESPACE}{_SEPARATOR}MediaId": "media_id",
    f"http://purl.org/dc/terms/{_SEPARATOR}provenance": "manifest",
}
_RDF_END: Final = f"{RDF}{_SEPARATOR}RDF"
_DESCRIPTION: Final = f"{RDF}{_SEPARATOR}Description"
_ABOUT: Final = f"{RDF}{_SEPARATOR}about"
_RESOURCE: Final = f"{RDF}{_SEPARATOR}resource"


class _Reader:
    """Collects properties, written as attributes or as elements."""

    def __init__(self, data: bytes) -> None:
        self.found = Properties()
        self._own_tool = ""
        self._data = data
        self._name = ""
        self._text: list[str] = []
        self._parser = parser = expat.ParserCreate(namespace_separator=_SEPARATOR)
        parser.StartDoctypeDeclHandler = self._refused
        parser.EntityDeclHandler = self._refused
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters

    def read(self) -> Properties:
        try:
            self._parser.Parse(self._data, True)
        except (expat.ExpatError, ValueError, LookupError) as error:
            raise DamagedError(f"its XMP is not well-formed: {error}") from error
        self.found.tool = self._own_tool or self.found.tool
        return self.found

    def _refused(self, *_: object) -> None:
        raise DamagedError("its XMP declares a document type or entities")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        if name == _DESCRIPTION and self.found.about is None:
            self.found.about = attributes.get(_ABOUT, "")
        for key, value in attributes.items():
            self._take(_WANTED.get(key, ""), value)
        if (wanted := _WANTED.get(name)) is not None:
            self._name, self._text = wanted, []
            self._take(wanted, attributes.get(_RESOURCE, ""))

    def _characters(self, text: str) -> None:
        if self._name and len(self._text) < _LONGEST_VALUE:
            self._text.append(text)

    def _end(self, name: str) -> None:
        if name in _WANTED and self._name:
            self._take(self._name, "".join(self._text).strip())
            self._name = ""
        elif name == _RDF_END:
            place = self._parser.CurrentByteIndex
            self.found.end_of_rdf = place if self._data[place : place + 2] == b"</" else None

    def _take(self, wanted: str, value: str) -> None:
        value = value[:_LONGEST_VALUE]
        if not value or not wanted:
            return
        if wanted == "source_types":
            self.found.source_types.append(value)
        elif wanted == "own_tool":
            self._own_tool = value
        else:
            setattr(self.found, wanted, value)


def read(data: bytes) -> Properties:
    """Read a packet.

    Raises:
        DamagedError: It is too large, not well-formed, or tries what XMP never needs.
    """
    if len(data) > LARGEST:
        raise DamagedError(f"its XMP has more than {LARGEST} bytes")
    return _Reader(data.rstrip(b"\x00 \r\n\t")).read()


def completed(data: bytes, properties: Properties, mark: Mark, restore: str = "") -> bytes:
    """The packet with our properties added; nothing of it is changed.

    Raises:
        NoRoomError: It has no place for them.
    """
    place = properties.end_of_rdf
    about = properties.about or ""
    if place is None or b"\x00" in data[:place] or len(about) > _LONGEST_ABOUT or '"' in about:
        raise NoRoomError("its XMP has no place for more properties")
    return data[:place] + mark.description(about, restore) + data[place:]
