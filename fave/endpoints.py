"""Where the platform answers. Precedence: environment > `.fave/endpoints.json` (flags go into the environment)."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import msgspec

from fave.environment import address, read
from fave.errors import ConfigError, NoPlatformError
from fave.settings import ROOT

# The embedded platform's folder; tests and second platforms use one of their own.
STATE = Path(os.path.realpath(os.environ.get("FAVE_STATE") or ROOT / ".fave"))
DEFAULT_BUCKET = "fave-artifacts"
_BUCKET = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{0,254}")
_ADDRESSES = {"gateway_url": "GATEWAY_URL", "prometheus_url": "PROMETHEUS_URL", "s3_endpoint_url": "S3_ENDPOINT_URL"}
_BELONGING = {
    "gateway_url": ("gateway_user", "gateway_password"),
    "s3_endpoint_url": ("access_key", "secret_key", "bucket"),
}


class Endpoints(msgspec.Struct, frozen=True, kw_only=True):
    """Addresses, credentials and where each came from. Never written anywhere as a whole: it holds secrets."""

    gateway_url: str
    prometheus_url: str
    s3_endpoint_url: str
    gateway_user: str
    gateway_password: str
    access_key: str
    secret_key: str
    session_token: str = ""
    bucket: str = DEFAULT_BUCKET
    # Of the embedded platform; 0 where it is another one.
    supervisor_pid: int = 0

    @property
    def embedded(self) -> bool:
        return self.supervisor_pid > 0

    def storage_environment(self) -> dict[str, str]:
        """What a function needs to reach the object store, by environment."""
        return {
            "S3_ENDPOINT_URL": self.s3_endpoint_url,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            # Also where there is none: that of the account belongs to other keys.
            "AWS_SESSION_TOKEN": self.session_token,
            "FAVE_BUCKET": self.bucket,
        }

    def environment(self) -> dict[str, str]:
        """Everything, for a child process of FAVE itself."""
        return self.storage_environment() | {
            "GATEWAY_URL": self.gateway_url,
            "GATEWAY_USER": self.gateway_user,
            "GATEWAY_PASSWORD": self.gateway_password,
            "PROMETHEUS_URL": self.prometheus_url,
        }


class PublicEndpoints(msgspec.Struct, frozen=True, kw_only=True):
    """`.fave/endpoints.json`: the running embedded platform, without secrets."""

    pid: int
    process_started_at_s: float
    gateway_url: str
    metrics_url: str
    prometheus_url: str
    s3_endpoint_url: str
    bucket: str


class Credentials(msgspec.Struct, frozen=True, kw_only=True):
    """`.fave/credentials.json` (mode 0600)."""

    gateway_user: str
    gateway_password: str
    access_key: str
    secret_key: str


def find(state: Path = STATE) -> Endpoints:
    """The endpoints in force: of gateway, Prometheus and object store the environment's, else the embedded platform's.

    Credentials belong to their address: those of an account that has some for other purposes say nothing here.

    Raises
    ------
    NoPlatformError
        Naming every address that is set nowhere, with the remedy.
    ConfigError
        For a variable that cannot be used.
    """
    elsewhere = {name: address(variable) for name, variable in _ADDRESSES.items()}
    found = _published(state)
    if elsewhere["gateway_url"] not in ("", found.get("gateway_url")):
        # Another platform: nothing of the local one, least of all its passwords, belongs to it.
        found = {}
    values = {name: url or found.get(name, "") for name, url in elsewhere.items()}
    missing = [_ADDRESSES[name] for name, url in values.items() if not url]
    if missing:
        raise NoPlatformError(
            f"no platform: {', '.join(missing)} set neither in the environment nor in {state.name}/endpoints.json",
            hint="start the embedded platform with `make up`, or set these to your OpenFaaS, Prometheus and S3",
        )
    gateway = _own(found, values, "gateway_url") or {
        "gateway_user": os.environ.get("GATEWAY_USER", ""),
        "gateway_password": _password_file() or os.environ.get("GATEWAY_PASSWORD", ""),
    }
    store = _own(found, values, "s3_endpoint_url") or {
        "access_key": os.environ.get("AWS_ACCESS_KEY_ID", ""),
        "secret_key": os.environ.get("AWS_SECRET_ACCESS_KEY", ""),
        "session_token": os.environ.get("AWS_SESSION_TOKEN", ""),
        "bucket": bucket(),
    }
    return Endpoints(**values, **gateway, **store, supervisor_pid=int(found.get("pid", 0)))


def _published(state: Path) -> dict[str, Any]:
    """What the embedded platform said of itself; empty where there is none."""
    try:
        public = msgspec.json.decode((state / "endpoints.json").read_bytes(), type=PublicEndpoints)
        secret = msgspec.json.decode((state / "credentials.json").read_bytes(), type=Credentials)
    except (FileNotFoundError, ValueError):
        return {}
    return msgspec.to_builtins(public) | msgspec.to_builtins(secret)  # type: ignore[no-any-return]


def _own(found: dict[str, Any], values: dict[str, str], name: str) -> dict[str, str]:
    """The embedded platform's credentials for an address of its own; empty for another one."""
    return {key: found[key] for key in _BELONGING[name]} if values[name] == found.get(name) else {}


def bucket() -> str:
    def parse(text: str) -> str:
        if not _BUCKET.fullmatch(text):
            raise ValueError(text)
        return text

    return read("FAVE_BUCKET", DEFAULT_BUCKET, parse, "the name of a bucket")


def credential(variable: str) -> str:
    """From the environment, else from OpenFaaS' secret of that name (`aws-access-key-id`), else empty."""
    return os.environ.get(variable) or _secret(variable)


def session_token() -> str:
    """Of temporary keys: it comes from where the keys come from."""
    from_environment = os.environ.get("AWS_ACCESS_KEY_ID")
    return os.environ.get("AWS_SESSION_TOKEN", "") if from_environment else _secret("AWS_SESSION_TOKEN")


def _secret(variable: str) -> str:
    folder = Path(os.environ.get("secret_mount_path", "/var/openfaas/secrets"))  # noqa: SIM112 - OpenFaaS' name
    name = variable.lower().replace("_", "-")
    try:
        return (folder / name).read_text(encoding="utf-8").strip()
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the secret {folder / name} cannot be read ({error})") from error


def _password_file() -> str:
    name = os.environ.get("GATEWAY_PASSWORD_FILE", "")
    if not name:
        return ""
    try:
        return Path(name).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"environment GATEWAY_PASSWORD_FILE={name}: cannot be read ({error})") from error
