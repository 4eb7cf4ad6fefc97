"""The program `lambdactl`. What it imports is imported below, so that Ctrl-C is clean from the first moment on."""

from __future__ import annotations

import os
import sys


def main() -> None:
    code = 130
    try:
        from lambdactl.program import run

        code = run(sys.argv[1:])
    except KeyboardInterrupt:
        code = 130
    finally:
        # What is still in the buffer of a stdout that nobody reads would be complained of at the very end.
        try:
            sys.stdout.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


if __name__ == "__main__":
    main()
