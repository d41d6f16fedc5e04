"""What stands in the way of measuring on somebody's platform: all of it at once, each with its remedy.

Asked of addresses, before it is known what answers there. Writes one object to the store, and removes it.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import NamedTuple

from botocore.exceptions import BotoCoreError, ClientError

from fave.endpoints import Endpoints
from fave.errors import FaveError, PlatformError, StorageError
from fave.storage import Store
from platforms.gateway import Gateway
from platforms.session import on_kubernetes
from prom.client import Prometheus

# What a reply's Date header can show: it counts whole seconds.
_CLOCK_S = 3.0
_REMEDIES: dict[type[FaveError], str] = {
    StorageError: "S3_ENDPOINT_URL, FAVE_BUCKET, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY belong together"
}
Say = Callable[[str], None]


class Finding(NamedTuple):
    """refuses: nothing can be measured like this; else it is worth knowing."""

    what: str
    remedy: str
    refuses: bool = True

    def __str__(self) -> str:
        return f"{self.what}\n    remedy: {self.remedy}" if self.remedy else self.what


def refuse(endpoints: Endpoints, memory_mb: Mapping[str, int], say: Say) -> None:
    """Say what is worth knowing. memory_mb: limits of the functions that are to run.

    Raises
    ------
    PlatformError
        With all that stands in the way.
    """
    found = findings(endpoints, memory_mb)
    for each in found:
        if not each.refuses:
            say(f"note: {each}")
    problems = [str(each) for each in found if each.refuses]
    if problems:
        raise PlatformError("\n".join(problems))


def findings(endpoints: Endpoints, memory_mb: Mapping[str, int]) -> list[Finding]:
    """In the order gateway, Prometheus, object store, Kubernetes; empty where all is well."""
    looks: list[Callable[[], Iterator[Finding]]] = [
        lambda: _gateway(endpoints),
        lambda: _prometheus(endpoints),
        lambda: _store(endpoints),
    ]
    if on_kubernetes():
        looks.append(lambda: _kubernetes(memory_mb))
    found: list[Finding] = []
    for look in looks:
        try:
            found += look()
        except FaveError as error:
            found.append(Finding(error.message, error.hint or _REMEDIES.get(type(error), "")))
    return found


def _gateway(endpoints: Endpoints) -> Iterator[Finding]:
    now, told = datetime.now(UTC), Gateway.at(endpoints).date()
    if told and abs((parsedate_to_datetime(told) - now).total_seconds()) > _CLOCK_S:
        off_s = (parsedate_to_datetime(told) - now).total_seconds()
        yield Finding(f"the gateway's clock is {off_s:+.0f} s from this machine's", "let both follow an NTP server")


def _prometheus(endpoints: Endpoints) -> Iterator[Finding]:
    up = Prometheus(endpoints.prometheus_url).up()
    if not up:
        yield Finding("Prometheus has no target (`up` is empty)", "let it scrape the gateway's port 8082")
    for target, answers in up.items():
        if not answers:
            remedy = "is its address right, and may Prometheus reach it?"
            yield Finding(f"Prometheus: target {target} does not answer", remedy, refuses=not any(up.values()))


def _store(endpoints: Endpoints) -> Iterator[Finding]:
    store = Store.at(endpoints)
    uri = store.uri(f"claims/try-{uuid.uuid4().hex}")
    store.put(uri, b"", create=True)
    try:
        store.put(uri, b"", create=True)
    except StorageError as error:
        if error.slug != "conflict":
            raise
    else:
        yield Finding(
            "the object store writes over what was only to be created (If-None-Match)",
            "a store with conditional writes: SeaweedFS, MinIO, AWS S3",
        )
    finally:
        store.delete(uri)
    try:
        store.client.get_bucket_lifecycle_configuration(Bucket=store.bucket)
    except (ClientError, BotoCoreError):
        remedy = "a rule that expires requests/, say after a week"
        yield Finding(f"bucket {store.bucket}: no lifecycle rule, so what runs leave stays", remedy, refuses=False)


def _kubernetes(memory_mb: Mapping[str, int]) -> Iterator[Finding]:
    # Its client takes a second to import.
    from platforms.kubernetes_api import Cluster, unmet

    cluster = Cluster.find()
    for right in cluster.missing_rights():
        remedy = f"platforms/manifests/base/rights.yaml has all that FAVE needs; {right.without}"
        yield Finding(f"Kubernetes: the account may not {right}", remedy, refuses=right.needed)
    for problem in unmet(memory_mb, cluster.nodes_memory_mb(), cluster.quota_memory_mb()):
        yield Finding(problem, "a larger node or quota, smaller functions (memory_limit_mb), or fewer of them")
