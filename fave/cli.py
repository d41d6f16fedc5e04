"""What every door of FAVE does with errors: one clear message, one exit code, no traceback."""

from __future__ import annotations

import argparse
import io
import os
import re
import signal
import sys
from collections.abc import Callable

from fave.errors import EXIT_INTERRUPTED, ConfigError, FaveError

# A message is for people: an argument of a hundred kilobytes is not repeated as a whole.
_LONGEST = 4_000


def run_door(main: Callable[[], int]) -> int:
    """Run a door's `main` and translate its errors to exit codes (see `fave.errors`). TERM ends it as Ctrl-C does."""
    signal.signal(signal.SIGTERM, _interrupt)
    # What FAVE writes is its own: others may read it if the account lets them, and never write.
    os.umask(os.umask(0o022) | 0o022)
    _make_printable()
    try:
        _refuse_what_is_no_text(sys.argv[1:])
        code = main()
        sys.stdout.flush()
    except FaveError as error:
        _complain(str(error))
        return error.exit_code
    except BrokenPipeError:
        # Whoever read our output has closed it (`| head`): not an error of ours.
        _give_up_output()
        return 0
    except OSError as error:
        # A full disk, a folder that is not ours: what and where, no traceback.
        _complain(f"{error.strerror or error}: {error.filename or 'while writing'}")
        _give_up_output()
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    return code


def port(text: str) -> int:
    """For argparse: a port's number, 0 for any."""
    return whole(text, most=65_535)


def whole(text: str, *, least: int = 0, most: int) -> int:
    """For argparse: a number within bounds.

    Raises
    ------
    ArgumentTypeError
        For anything else.
    """
    if not re.fullmatch(r"[0-9]{1,16}", text) or not least <= int(text) <= most:
        raise argparse.ArgumentTypeError(f"{text[:80]!r} is not a whole number from {least} to {most}")
    return int(text)


def _make_printable() -> None:
    """Any letter can be printed in any locale, if need be by its number, and into nowhere if there is no output."""
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - for as long as the process lives
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _refuse_what_is_no_text(arguments: list[str]) -> None:
    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError:
            raise ConfigError(f"the argument {argument!r} is no text in UTF-8") from None


def _complain(text: str) -> None:
    print(f"error: {text if len(text) <= _LONGEST else f'{text[:_LONGEST]} ...'}", file=sys.stderr)


def _give_up_output() -> None:
    """What cannot be written now cannot be when the interpreter ends, which would be another error."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
