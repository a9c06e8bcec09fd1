"""Runs a program whose clock is off: `python -m tests.shifted_clock SECONDS MODULE ARGUMENT...`."""

import runpy
import sys
import time

_right = time.time


def main() -> None:
    shift = float(sys.argv[1])
    time.time = lambda: _right() + shift
    sys.argv = sys.argv[2:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
