"""A model for tests of the process around it: it does what the prompt says. Run with `python -m`."""

import os
import sys
import time

from app.media_generator.local_media_generator.computing import UnsafeContentError, serve

ERRORS = {
    "fail": ArithmeticError("no such colour"),
    "make what must not be seen": UnsafeContentError("it shows too much"),
}


class Obedient:
    def __init__(self):
        if "unwilling" in sys.argv:
            raise FileNotFoundError("/srv/models is empty")

    def make(self, order, tell):
        match order.prompt:
            case "go on for ever":
                while True:
                    tell(0.5)
                    time.sleep(0.005)
            case "be deaf":
                tell(0.5)
                time.sleep(3600)
            case "die":
                os._exit(3)
            case "fail" | "make what must not be seen" as prompt:
                raise ERRORS[prompt]
            case "print":
                print("as libraries do", flush=True)  # noqa: T201 - that is what is tested
                os.write(1, b"on the file itself")
            case "show the environment":
                return "\n".join(sorted(os.environ)).encode()
        return f"{order.prompt} {order.input} {len(order.picture or b'')}".encode()


if __name__ == "__main__":
    serve(Obedient)
