"""What every door of FAVE does with errors: one clear message, one exit code, no traceback."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable

from fave.errors import EXIT_INTERRUPTED, FaveError


def run_door(main: Callable[[], int]) -> int:
    """Run a door's `main` and translate its errors to exit codes (see `fave.errors`). TERM ends it as Ctrl-C does."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        return main()
    except FaveError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        # Whoever read our output has closed it (`| head`): not an error of ours.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        # A full disk, a folder that is not ours: what and where, no traceback.
        print(f"error: {error.strerror}: {error.filename or 'while writing'}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
