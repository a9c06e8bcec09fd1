"""A fake model for tests of the compute process: it does what the prompt says. Run with `python -m`."""

import os
import sys
import time

from app.media_generator.local_media_generator.computing import UnsafeContentError, serve

ERRORS = {
    "fail": ArithmeticError("no such colour"),
    "make something unsafe": UnsafeContentError("rejected by the checker"),
}


class ScriptedModel:
    def __init__(self):
        if "cannot load" in sys.argv:
            raise FileNotFoundError("/srv/models is empty")

    def make(self, order, report):
        match order.prompt:
            case "run forever":
                while True:
                    report(0.5)
                    time.sleep(0.005)
            case "ignore messages":
                report(0.5)
                time.sleep(3600)
            case "die":
                os._exit(3)
            case "fail" | "make something unsafe" as prompt:
                raise ERRORS[prompt]
            case "print":
                print("as libraries do", flush=True)  # noqa: T201 - the test is about printing
                os.write(1, b"on the file itself")
            case "show the environment":
                return "\n".join(sorted(os.environ)).encode()
        return f"{order.prompt} {order.input} {len(order.picture or b'')}".encode()


if __name__ == "__main__":
    serve(ScriptedModel)
