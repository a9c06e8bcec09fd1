"""The floor: bare Starlette that answers each operation with ready-made bytes."""

import json
from typing import Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

MEDIA: Final = json.dumps({"id": "0" * 36, "job_id": "0" * 36, "status": "IN_QUEUE", "fill": "x" * 450}).encode()
URL: Final = "http://127.0.0.1:8333/fleek-media/media/2026/01/picture.png?X-Amz-Signature=" + "0" * 350


async def generate(request: Request) -> Response:
    await request.body()
    headers = {"location": "/media/status/" + "0" * 36}
    return Response(MEDIA, status_code=202, media_type="application/json", headers=headers)


async def status(_request: Request) -> Response:
    return Response(MEDIA, media_type="application/json", headers={"etag": '"1"'})


async def content(_request: Request) -> Response:
    return Response(status_code=307, headers={"location": URL})


app = Starlette(
    routes=[
        Route("/media/generate", generate, methods=["POST"]),
        Route("/media/status/{job_id:uuid}", status),
        Route("/media/content/{media_id:uuid}", content),
    ]
)
