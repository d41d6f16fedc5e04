"""Where the platform answers. Precedence: environment > `.fave/endpoints.json` (flags go into the environment)."""

from __future__ import annotations

import os
import re
from pathlib import Path

import msgspec

from fave.errors import ConfigError
from fave.settings import ROOT

# The embedded platform's folder; tests and second platforms use one of their own.
STATE = Path(os.environ.get("FAVE_STATE") or ROOT / ".fave").resolve()
DEFAULT_BUCKET = "fave-artifacts"


def shown(url: str) -> str:
    """An address for people and files: it may carry a password, which is nobody's business."""
    return re.sub(r"//[^/]*@", "//", url)


class Endpoints(msgspec.Struct, frozen=True, kw_only=True):
    """Addresses, credentials and where each came from. Never written anywhere as a whole: it holds secrets."""

    gateway_url: str
    prometheus_url: str
    s3_endpoint_url: str
    gateway_user: str
    gateway_password: str
    access_key: str
    secret_key: str
    bucket: str = DEFAULT_BUCKET
    embedded: bool = False

    def storage_environment(self) -> dict[str, str]:
        """What a function needs to reach the object store, by environment."""
        return {
            "S3_ENDPOINT_URL": self.s3_endpoint_url,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
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
    """The endpoints in force.

    Raises
    ------
    ConfigError
        Naming every address that is set nowhere, with the remedy.
    """
    found: dict[str, str] = {}
    try:
        found |= msgspec.to_builtins(msgspec.json.decode((state / "endpoints.json").read_bytes(), type=PublicEndpoints))
        found |= msgspec.to_builtins(msgspec.json.decode((state / "credentials.json").read_bytes(), type=Credentials))
    except (FileNotFoundError, msgspec.MsgspecError):
        found = {}
    variables = {
        "gateway_url": "GATEWAY_URL",
        "prometheus_url": "PROMETHEUS_URL",
        "s3_endpoint_url": "S3_ENDPOINT_URL",
        "gateway_user": "GATEWAY_USER",
        "gateway_password": "GATEWAY_PASSWORD",
        "access_key": "AWS_ACCESS_KEY_ID",
        "secret_key": "AWS_SECRET_ACCESS_KEY",
        "bucket": "FAVE_BUCKET",
    }
    elsewhere = os.environ.get("GATEWAY_URL")
    if found and elsewhere and elsewhere != found["gateway_url"]:
        # Another platform: nothing of the local one, least of all its passwords, belongs to it.
        found = {}
    password = _password_file()
    if password:
        found["gateway_password"] = password
    embedded = "pid" in found
    values = {key: os.environ.get(variable) or found.get(key, "") for key, variable in variables.items()}
    values["bucket"] = values["bucket"] or DEFAULT_BUCKET
    missing = [variables[key] for key in ("gateway_url", "prometheus_url", "s3_endpoint_url") if not values[key]]
    if missing:
        raise ConfigError(
            f"no platform: {', '.join(missing)} set neither in the environment nor in {state.name}/endpoints.json",
            hint="start the embedded platform with `make up`, or set these to your OpenFaaS, Prometheus and S3",
        )
    return Endpoints(**values, embedded=embedded)


def credential(variable: str) -> str:
    """From the environment, else from OpenFaaS' secret of that name (`aws-access-key-id`), else empty."""
    value = os.environ.get(variable, "")
    if value:
        return value
    folder = Path(os.environ.get("secret_mount_path", "/var/openfaas/secrets"))  # noqa: SIM112 - OpenFaaS' name
    try:
        return (folder / variable.lower().replace("_", "-")).read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _password_file() -> str:
    name = os.environ.get("GATEWAY_PASSWORD_FILE", "")
    if not name:
        return ""
    try:
        return Path(name).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ConfigError(f"GATEWAY_PASSWORD_FILE={name}: {error.strerror}") from error
