"""The error tree and its exit codes.

FaveError                    1
├── ConfigError              2   a file, flag or environment value is wrong; nothing was started
│   └── NoPlatformError          no address is set, and no embedded platform runs
├── AssetError               3   a model, a sample or a system program is missing
├── PlatformError            4   gateway, object store or Prometheus does not answer or refuses
│   ├── GatewayError             the gateway answered with an error
│   └── StorageError             the object store answered with an error
├── InvalidRunError          5   something was measured, but it must not be believed
└── StageError               6   a function could not do its work; carries slug, stage, retryable

A campaign that ended well says more by its exit code: 0 valid and every threshold met, 7 a threshold missed, 8 a
threshold or a control that the data do not decide, 9 a control failed (the instrument is wrong), 130 interrupted. One
that was run again: 0 compatible, 8 nothing to decide it by, 10 it differs.
"""

from __future__ import annotations

EXIT_OK = 0
EXIT_CONFIG = 2
EXIT_ASSET = 3
EXIT_PLATFORM = 4
EXIT_INVALID_RUN = 5
EXIT_STAGE = 6
EXIT_THRESHOLD = 7
EXIT_INCONCLUSIVE = 8
EXIT_CONTROL = 9
EXIT_DIFFERS = 10
EXIT_INTERRUPTED = 130


class FaveError(Exception):
    """An error a person can act on: what happened (with value and place), and a remedy in `hint`."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  hint: {self.hint}" if self.hint else self.message


class ConfigError(FaveError):
    """All the mistakes found in one configuration, one per line."""

    exit_code = EXIT_CONFIG

    def __init__(self, problems: list[str] | str, *, hint: str = "") -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.problems), hint=hint)


class NoPlatformError(ConfigError):
    pass


class AssetError(FaveError):
    exit_code = EXIT_ASSET


class PlatformError(FaveError):
    exit_code = EXIT_PLATFORM


class GatewayError(PlatformError):
    """`status` is the gateway's HTTP status, 0 when there was no answer; `sent`: whether it may have the request."""

    def __init__(self, message: str, *, status: int = 0, sent: bool = True, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.sent = sent


class StorageError(PlatformError):
    """`slug`: `not-found`, `conflict` (a conditional write lost), `changed` (another version than asked for),

    `too-large`, `forbidden` or `storage`.
    """

    def __init__(self, message: str, *, slug: str = "storage", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.slug = slug


class InvalidRunError(FaveError):
    exit_code = EXIT_INVALID_RUN


class StageError(FaveError):
    """Why a stage could not do its work, in a form that survives JSON."""

    exit_code = EXIT_STAGE

    def __init__(self, slug: str, reason: str, *, stage: str = "", retryable: bool = False) -> None:
        super().__init__(f"{stage}: {reason}" if stage else reason)
        self.slug = slug
        self.reason = reason
        self.stage = stage
        self.retryable = retryable
