"""What a replica is given: a temporary folder, its secrets as files, its environment."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from fave import environment
from fave.configuration import FUNCTION_SETTINGS
from fave.settings import ROOT
from local.gateway.model import Deployment, Program
from local.gateway.replica import Replica
from local.gateway.secret_mount import with_secrets

# One thread per replica by default: replicas, not hidden threads, are the unit of scaling.
_SINGLE_THREADED = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "FAVE_THREADS"), "1"
)
_INHERITED_PREFIX = "CONFIG_"
_PRIVATE = ("URL", "KEY", "SECRET", "PASSWORD", "TOKEN")


def inherited_settings() -> dict[str, str]:
    """What every replica gets that changes what it does; of files the name alone, and no address or credential."""
    found = {
        name: Path(value).name
        for name, value in os.environ.items()
        if value
        and (name in FUNCTION_SETTINGS or name.startswith(_INHERITED_PREFIX))
        and not any(word in name for word in _PRIVATE)
    }
    return dict(sorted((found | _SINGLE_THREADED).items()))


class Given(NamedTuple):
    """The same for all functions. environment_of: by function, addresses and keys for this checkout's own code.

    folder: of all replicas' temporary folders. secrets: by name. mounts_secrets: a program of somebody else's finds
    them where OpenFaaS puts them.
    """

    environment_of: Callable[[str], dict[str, str]]
    secrets: dict[str, str]
    folder: Path
    mounts_secrets: bool

    def to(
        self, replica: Replica, deployment: Deployment, program: Program, memory_limit_mb: int
    ) -> tuple[Program, dict[str, str]]:
        """Makes its folder; the program as it is to be started, and its environment."""
        scratch = self.folder / replica.id
        secrets = scratch / "secrets"
        secrets.mkdir(mode=0o700, parents=True)
        for name in deployment.secrets:
            (secrets / name).write_text(self.secrets.get(name, ""), encoding="utf-8")
        env = self._environment(replica, deployment, program, memory_limit_mb)
        if self.mounts_secrets and deployment.secrets and not program.trusted:
            program = program._replace(command=with_secrets(secrets, program.on(replica.port)))
        return program, env

    def take_back(self, replica: Replica) -> None:
        """A killed stage cannot clean up."""
        shutil.rmtree(self.folder / replica.id, ignore_errors=True)

    def _environment(
        self, replica: Replica, deployment: Deployment, program: Program, memory_limit_mb: int
    ) -> dict[str, str]:
        """A function that is not this checkout's gets what it declares, and nothing of FAVE's own."""
        asked = {name: os.environ[name] for name in program.inherits if name in os.environ}
        its_own = {
            **asked,
            "TMPDIR": str(self.folder / replica.id),
            "secret_mount_path": str(self.folder / replica.id / "secrets"),
            **deployment.env_vars,
            "port": str(replica.port),
        }
        if not program.hosted:
            return {**environment.for_foreign(), **its_own}
        of_host = {
            "PYTHONPATH": str(ROOT),
            "FAVE_FUNCTION": deployment.service,
            "FAVE_REPLICA_ID": replica.id,
            "FAVE_MEMORY_LIMIT_MB": str(memory_limit_mb),
        }
        if not program.trusted:
            return {**environment.for_foreign(), "fprocess": deployment.env_process, **its_own, **of_host}
        inherited = {
            name: value
            for name, value in os.environ.items()
            if name in FUNCTION_SETTINGS or name.startswith(_INHERITED_PREFIX)
        }
        return {
            **environment.for_measured(),
            "PYTHONUNBUFFERED": "1",
            "HF_HUB_OFFLINE": "1",
            **inherited,
            **_SINGLE_THREADED,
            **self.environment_of(deployment.service),
            **its_own,
            **of_host,
        }
