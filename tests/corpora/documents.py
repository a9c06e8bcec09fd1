"""3D results, documents, archives and texts, by small writers of bytes."""

import io
import json
import math
import struct
import zipfile

from PIL import Image

from tests.corpora.files import add, add_forms

CORNERS = [(0.0, 0.0, 0.0), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0)]
SVG = b"<svg xmlns='http://www.w3.org/2000/svg' width='5' height='5'><script>alert(1)</script></svg>"
HTML = b"<!doctype html><html><body>no picture</body></html>"


def make():
    add_forms("glb", glb(), "model/gltf-binary")
    add("gltf", json.dumps({"asset": {"version": "2.0"}, "scenes": [{"nodes": []}]}).encode(), "model/gltf+json")
    add_forms("usdz", archive("scene.usda", b"#usda 1.0\n"), "model/vnd.usdz+zip")
    add_forms("3mf", archive("3D/3dmodel.model", b"<model/>"), "model/3mf")
    add_forms("stl", stl(), "model/stl")
    add("stl: text", b"solid a\nfacet normal 0 0 1\nouter loop\nendloop\nendfacet\nendsolid a\n", "model/stl")
    ply = b"ply\nformat ascii 1.0\ncomment made here\nelement vertex 1\nproperty float x\nend_header\n0\n"
    add("ply", ply, "model/ply")
    add("ply: binary", ply.replace(b"ascii", b"binary_little_endian"), "model/ply")
    add("obj", b"# made here\nmtllib a.mtl\nv 0 0 0\nv 1.5 0 -1e3\nv 0 1 0\nvn 0 0 1\nf 1//1 2//1 3//1\n", "model/obj")
    add("fbx", b"Kaydara FBX Binary  \x00\x1a\x00" + struct.pack("<I", 7400) + bytes(200), "model/fbx")
    add("fbx: text", b"; FBX 7.4.0 project file\nFBXHeaderExtension:  {\n}\n", "model/fbx")
    add_forms("zip", archive("a.txt", b"text"), "application/zip")
    add("pdf", pdf(), "application/pdf")
    add("svg", SVG, "image/svg+xml")
    add("svg: with a prolog", b'\xef\xbb\xbf<?xml version="1.0"?>\n<!-- a -->\n' + SVG, "image/svg+xml")
    add("html", HTML, "text/html")
    add("html: with blanks before", b"\n\n  <HTML><head></head></HTML>", "text/html")
    add("xml", b'<?xml version="1.0"?>\n<a/>', "application/xml")
    add("json", b' {"a": [1, 2]}\n', "application/json")
    long = json.dumps([1234567] * 9_000).encode()
    add("json: long", long, "application/json")
    add("json: long, cut off", long[:-9], "application/json", is_complete=False, is_read=False)
    add("text", "ein schöner Tag\n".encode(), "text/plain")
    add("text: long", ("é" * 100_000).encode(), "text/plain")
    add("srt", b"1\r\n00:00:00,000 --> 00:00:01,000\r\nHello\r\n", "text/plain")
    add("vtt", b"\xef\xbb\xbfWEBVTT\n\n00:00.000 --> 00:01.000\nHello\n", "text/plain")
    add("csv", b"a,b\n1,2\n", "text/plain")
    add("text: Latin-1", "ein schöner Tag".encode("latin-1"), "application/octet-stream")
    add("unknown", bytes(range(256)), "application/octet-stream")
    add("zero bytes", b"", "application/octet-stream")


def glb():
    scene = json.dumps({"asset": {"version": "2.0"}}).encode()
    scene += b" " * (-len(scene) % 4)
    chunk = struct.pack("<I4s", len(scene), b"JSON") + scene
    return b"glTF" + struct.pack("<II", 2, 12 + len(chunk)) + chunk


def archive(name, content):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        file.writestr("[Content_Types].xml" if name.startswith("3D") else name, content)
        file.writestr(name if name.startswith("3D") else "b", content * 30)
    # Its list of files is the end; the part that is cut off is more than the list's own end.
    return out.getvalue()


def stl():
    assert math.dist(*CORNERS[:2]) == 1
    facets = [
        struct.pack("<12fH", 0, 0, 1, *(value + number for at in CORNERS for value in at), 0) for number in range(9)
    ]
    return b"made here".ljust(80) + struct.pack("<I", len(facets)) + b"".join(facets)


def pdf():
    out = io.BytesIO()
    Image.new("RGB", (9, 9)).save(out, "PDF")
    return out.getvalue()
