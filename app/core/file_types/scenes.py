"""3D results: GLB, glTF, USDZ, STL, PLY, OBJ, FBX and 3MF.

Source: glTF 2.0, section 4.4; USDZ File Format Specification; the STL, PLY and OBJ formats as their authors described
them; Kaydara FBX by its signature. PLY and FBX have no registered type; theirs are the ones that are in use.
"""

import math
import re
import struct
from typing import Final

from app.core.file_types.kind import HEAD_BYTES, Kind

_GLB: Final = Kind("model/gltf-binary", "glb")
_FBX: Final = Kind("model/fbx", "fbx")
_STL: Final = Kind("model/stl", "stl")
_OBJ: Final = Kind("model/obj", "obj")
_USD: Final = (".usd", ".usda", ".usdc")
_STL_HEADER: Final = 84
"""Bytes of text and the number of facets."""
_FACET: Final = 50
_FACETS_TRIED: Final = 4
_NORMAL_ERROR: Final = 0.1
_PLY: Final = re.compile(rb"ply\r?\n(?:comment[^\n]*\n|obj_info[^\n]*\n)*format (?:ascii|binary_)")
_STL_TEXT: Final = re.compile(rb"\s*solid\b[^\n]*\n\s*(?:facet\s+normal|endsolid)\b")
_OBJ_VERTEX: Final = re.compile(rb"^v(?:[ \t]+[-+.\deE]+){3,}[ \t]*\r?$", re.MULTILINE)
_OBJ_LINE: Final = re.compile(rb"(?:#.*|\s*|(?:v|vt|vn|vp|f|l|p|o|g|s|mtllib|usemtl|cstype|deg|surf|parm|end)\b.*)\r?")
_GLTF: Final = re.compile(rb'\s*\{(?s:.*)"asset"\s*:\s*\{[^{}]*"version"\s*:\s*"[12]\.')


def recognise(head: bytes) -> Kind | None:
    """The type of a 3D result with a signature; None: it is none."""
    if head.startswith(b"glTF") and head[4:8] in {b"\x01\x00\x00\x00", b"\x02\x00\x00\x00"}:
        return _GLB
    if head.startswith((b"Kaydara FBX Binary  \x00", b"; FBX ")):
        return _FBX
    if _PLY.match(head):
        return Kind("model/ply", "ply")
    if head.startswith(b"#usda "):
        return Kind("model/vnd.usda", "usda")
    return _in_archive(head) if head.startswith(b"PK\x03\x04") else None


def _in_archive(head: bytes) -> Kind | None:
    """By the name of the first file of a ZIP archive."""
    name = head[30 : 30 + int.from_bytes(head[26:28], "little")]
    if name.lower().decode("latin-1").endswith(_USD):
        return Kind("model/vnd.usdz+zip", "usdz")
    return Kind("model/3mf", "3mf") if b"3D/3dmodel.model" in head else None


def recognise_text(head: bytes) -> Kind | None:
    """The type of a 3D result that is text; None: it is another text."""
    if _STL_TEXT.match(head):
        return _STL
    if _GLTF.match(head):
        return Kind("model/gltf+json", "gltf")
    if not _OBJ_VERTEX.search(head):
        return None
    lines = head.split(b"\n")
    if len(head) >= HEAD_BYTES:
        lines.pop()
    return _OBJ if all(_OBJ_LINE.fullmatch(line) for line in lines) else None


def recognise_weakly(head: bytes) -> Kind | None:
    """A binary STL, which has no signature: by its facets."""
    facets = int.from_bytes(head[80:_STL_HEADER], "little")
    if len(head) < _STL_HEADER + _FACET or not facets:
        return None
    if len(head) < HEAD_BYTES and len(head) > _STL_HEADER + _FACET * facets + HEAD_BYTES // 2:
        return None
    places = [_STL_HEADER + number * _FACET for number in range(min(facets, _FACETS_TRIED))]
    return _STL if all(_is_facet(head[place : place + 48]) for place in places if place + 48 <= len(head)) else None


def _is_facet(data: bytes) -> bool:
    """Whether these are three corners, and a direction of the length 1 or none."""
    values = struct.unpack("<12f", data)
    if not all(math.isfinite(value) for value in values) or not any(values[3:]):
        return False
    length = math.hypot(*values[:3])
    usual = all(value == 0 or 1e-20 < abs(value) < 1e12 for value in values)  # noqa: PLR2004 - what programs write
    return usual and (length == 0 or abs(length - 1) < _NORMAL_ERROR)
