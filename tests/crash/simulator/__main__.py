"""Providers that take money and make trouble, as a server of its own: `python -m tests.crash.simulator`.

It keeps the books: every purchase with the attempt it was made for and the hash of what it made for it, so that what
was bought twice, mixed up or thrown away can be told without asking the system under test. It is never killed.
"""

import argparse
import asyncio
import socket

from aiohttp import web

from tests.crash.simulator import own
from tests.crash.simulator.books import Books
from tests.crash.simulator.fal import Fal
from tests.crash.simulator.replicate import Replicate
from tests.crash.troubles import Draw


async def stats(request: web.Request) -> web.Response:
    """The books."""
    return web.json_response(request.app[own.BOOKS].stats())


def make_app(draw: Draw) -> web.Application:
    app = web.Application(client_max_size=10**8)
    app[own.BOOKS] = Books(draw)
    app.add_routes([*own.routes(), web.get("/stats", stats)])
    books = app[own.BOOKS]
    replicate, fal = Replicate(books), Fal(books)
    app.middlewares.append(replicate.guard)
    app.add_routes([*replicate.routes(), *fal.routes()])
    return app


async def serve(app: web.Application, listening: socket.socket) -> None:
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.SockSite(runner, listening).start()
    await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.crash.simulator", description=__doc__)
    parser.add_argument("--fd", type=int, help="a socket to listen on; without it, a port that is free")
    parser.add_argument("--seed", default="0", help="of everything that is drawn")
    parser.add_argument("--troubles", default="", help="what may be drawn, with commas between")
    parser.add_argument("--often", default="", help="which of these often")
    given = parser.parse_args()
    wanted, often = (frozenset(filter(None, names.split(","))) for names in (given.troubles, given.often))
    draw = Draw(wanted, given.seed, often=often)
    fd = given.fd
    with socket.socket(fileno=fd) if fd is not None else socket.create_server(("127.0.0.1", 0)) as listening:
        print(f"http://127.0.0.1:{listening.getsockname()[1]}", flush=True)  # noqa: T201 - where it is found
        asyncio.run(serve(make_app(draw), listening))


if __name__ == "__main__":
    main()
