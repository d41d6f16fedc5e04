"""The object store through boto3: whole objects, conditional writes, `s3://` addresses."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeVar
from urllib.parse import urlsplit

import boto3
import botocore.session
from botocore.config import Config
from botocore.configprovider import BOTOCORE_DEFAUT_SESSION_VARIABLES as BOTO_VARIABLES
from botocore.exceptions import BotoCoreError, ClientError

from fave.endpoints import Endpoints, bucket, credential, session_token
from fave.environment import address, read
from fave.errors import ConfigError, StorageError

T = TypeVar("T")
LOOPBACK = frozenset(("127.0.0.1", "localhost", "::1"))
_PART_BYTES = 2**20
_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
_SLUGS = {
    "404": "not-found",
    "NoSuchKey": "not-found",
    "NoSuchBucket": "not-found",
    "412": "conflict",
    "PreconditionFailed": "conflict",
    "409": "conflict",
    "ConditionalRequestConflict": "conflict",
    "403": "forbidden",
    "InvalidAccessKeyId": "forbidden",
    "SignatureDoesNotMatch": "forbidden",
    "AccessDenied": "forbidden",
}


class Address(NamedTuple):
    bucket: str
    key: str

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}"


def parse_uri(uri: str) -> Address:
    """`s3://bucket/key` in parts.

    Raises
    ------
    StorageError
        `forbidden`, for any other scheme, an empty part or a key with `..`.
    """
    scheme, _, rest = uri.partition("://")
    bucket, _, key = rest.partition("/")
    if scheme != "s3" or not bucket or not key or ".." in key.split("/"):
        raise StorageError(f"{uri!r} is not an s3://bucket/key address", slug="forbidden")
    return Address(bucket, key)


class Head(NamedTuple):
    etag: str
    size_bytes: int


class Store:
    """One client. Threads may share it.

    readable: other buckets from which inputs may come. quick: for small objects that are worth less than the time of
    who waits for them; it gives up within a few seconds. Without keys boto3 looks for an identity where it always does
    (a pod's, a profile's). With keys nothing but these arguments and AWS_REGION counts; AWS_CA_BUNDLE where the store
    speaks https, and proxies where it is not on loopback.

    Raises
    ------
    ConfigError
        When no client can be made of these.
    """

    def __init__(
        self,
        *,
        endpoint_url: str,
        access_key: str,
        secret_key: str,
        session_token: str = "",
        bucket: str,
        readable: frozenset[str] = frozenset(),
        quick: bool = False,
    ) -> None:
        self.bucket = bucket
        self.readable = readable | {bucket}
        local = urlsplit(endpoint_url).hostname in LOOPBACK
        config = Config(
            retries={"max_attempts": 3 if quick else 5, "mode": "standard"},
            connect_timeout=1 if quick else 3,
            read_timeout=2 if quick else 60,
            max_pool_connections=32,
            # No proxy stands between us and loopback, whatever the account's variables say.
            proxies={} if local else None,
            s3={"addressing_style": "path", "us_east_1_regional_endpoint": "regional"},
        )
        if bool(access_key) != bool(secret_key):
            has, lacks = _KEYS if access_key else reversed(_KEYS)
            raise ConfigError(f"{has} is set and {lacks} is not: one is no use without the other")
        try:
            self.client: Any = _session(with_keys=bool(access_key)).client(
                "s3",
                endpoint_url=endpoint_url or None,
                aws_access_key_id=access_key or None,
                aws_secret_access_key=secret_key or None,
                aws_session_token=session_token or None,
                region_name=read("AWS_REGION", "us-east-1", _region, "the name of a region"),
                config=config,
            )
        except (BotoCoreError, ValueError) as error:
            hint = (
                "AWS_PROFILE and its siblings count where no keys are given: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY"
            )
            raise ConfigError(f"no client for the object store can be made: {error}", hint=hint) from error

    @classmethod
    def from_environment(cls, *, quick: bool = False) -> Store:
        """From S3_ENDPOINT_URL, the keys (`AWS_ACCESS_KEY_ID`, …), FAVE_BUCKET and FAVE_ALLOWED_BUCKETS."""
        return cls(
            endpoint_url=address("S3_ENDPOINT_URL"),
            access_key=credential("AWS_ACCESS_KEY_ID"),
            secret_key=credential("AWS_SECRET_ACCESS_KEY"),
            session_token=session_token(),
            bucket=bucket(),
            readable=frozenset(filter(None, os.environ.get("FAVE_ALLOWED_BUCKETS", "").split(","))),
            quick=quick,
        )

    @classmethod
    def at(cls, endpoints: Endpoints) -> Store:
        """The platform's own store, with FAVE's own credentials."""
        return cls(
            endpoint_url=endpoints.s3_endpoint_url,
            access_key=endpoints.access_key,
            secret_key=endpoints.secret_key,
            session_token=endpoints.session_token,
            bucket=endpoints.bucket,
        )

    def uri(self, key: str) -> str:
        return str(Address(self.bucket, key))

    def check_readable(self, uri: str) -> None:
        """Raises StorageError `forbidden` for an address that is not `s3://` in an allowed bucket."""
        if parse_uri(uri).bucket not in self.readable:
            allowed = ", ".join(sorted(self.readable))
            raise StorageError(f"{uri}: may be read from bucket {allowed} only", slug="forbidden")

    def get(self, uri: str, *, etag: str = "", max_bytes: int = 0) -> bytes:
        """The object; StorageError `changed` when `etag` is given and it is not that version any more, `too-large`."""
        parts: list[bytes] = []
        self._stream(uri, parts.append, etag=etag, max_bytes=max_bytes)
        return b"".join(parts)

    def get_versioned(self, uri: str) -> tuple[bytes, str]:
        """The object and its ETag, for a later `put(..., if_match=...)`."""
        parts: list[bytes] = []
        found = self._stream(uri, parts.append)
        return b"".join(parts), found.etag

    def download(self, uri: str, path: Path, *, etag: str = "", max_bytes: int = 0) -> int:
        """The object into a file, by parts: a video need not fit into memory. Returns its size in bytes."""
        with path.open("wb") as file:
            return self._stream(uri, file.write, etag=etag, max_bytes=max_bytes).size_bytes

    def _stream(self, uri: str, take: Callable[[bytes], object], *, etag: str = "", max_bytes: int = 0) -> Head:
        address = parse_uri(uri)
        version = {"IfMatch": etag} if etag else {}

        def read() -> Head:
            reply = self.client.get_object(Bucket=address.bucket, Key=address.key, **version)
            size_bytes = int(reply["ContentLength"])
            if max_bytes and size_bytes > max_bytes:
                reply["Body"].close()
                raise StorageError(f"{uri}: {size_bytes} bytes, the limit is {max_bytes}", slug="too-large")
            for part in reply["Body"].iter_chunks(_PART_BYTES):
                take(part)
            return Head(reply["ETag"], size_bytes)

        try:
            return _translated(read, uri)
        except StorageError as error:
            if etag and error.slug == "conflict":
                reason = f"{uri}: is not the version {etag} any more that this request is about"
                raise StorageError(reason, slug="changed") from error
            raise

    def head(self, uri: str) -> Head:
        address = parse_uri(uri)

        def ask() -> Head:
            reply = self.client.head_object(Bucket=address.bucket, Key=address.key)
            return Head(reply["ETag"], int(reply["ContentLength"]))

        return _translated(ask, uri)

    def put(
        self, uri: str, data: bytes | BinaryIO, *, content_type: str = "", if_match: str = "", create: bool = False
    ) -> str:
        """Write from memory, or from a file that nobody else writes, with the SDK's checksum. Returns the ETag.

        `if_match` writes only over that version, `create` only where nothing is (StorageError `conflict` otherwise).
        """
        address = parse_uri(uri)
        extra: dict[str, str] = {}
        if content_type:
            extra["ContentType"] = content_type
        if if_match:
            extra["IfMatch"] = if_match
        if create:
            extra["IfNoneMatch"] = "*"

        def write() -> str:
            reply = self.client.put_object(Bucket=address.bucket, Key=address.key, Body=data, **extra)
            return str(reply["ETag"])

        return _translated(write, uri)

    def delete(self, uri: str) -> None:
        """One that is gone already is no error."""
        at = parse_uri(uri)
        _translated(lambda: self.client.delete_object(Bucket=at.bucket, Key=at.key), uri)

    def exists(self, uri: str) -> bool:
        try:
            self.head(uri)
        except StorageError as error:
            if error.slug == "not-found":
                return False
            raise
        return True

    def presigned(self, uri: str, *, valid_s: int = 3600) -> str:
        """An http address at which anybody can read the object for `valid_s` seconds."""
        bucket, key = parse_uri(uri)
        parameters = {"Bucket": bucket, "Key": key}
        return str(self.client.generate_presigned_url("get_object", Params=parameters, ExpiresIn=valid_s))

    def keys(self, prefix: str) -> list[str]:
        """Every key of the own bucket under `prefix`, in the store's order."""
        return list(self.sizes_bytes(prefix))

    def sizes_bytes(self, prefix: str) -> dict[str, int]:
        """Every key of the own bucket under `prefix`, in the store's order, and how large its object is."""

        def listing() -> dict[str, int]:
            pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
            return {item["Key"]: int(item["Size"]) for page in pages for item in page.get("Contents", ())}

        return _translated(listing, self.uri(prefix or "*"))


@functools.cache
def _session(*, with_keys: bool) -> boto3.Session:
    """With keys one that reads no profile, no file and no variable but those of `Store`. Cached: it takes 0.1 s."""
    if not with_keys:
        return boto3.Session()
    # Name: (its key in a file, its variable, default, conversion).
    defaults = {name: (None, None, default, None) for name, (_, _, default, _) in BOTO_VARIABLES.items()}
    own = {
        "config_file": (None, None, os.devnull, None),
        "credentials_file": (None, None, os.devnull, None),
        "ca_bundle": (None, "AWS_CA_BUNDLE", None, None),
        "ignore_configured_endpoint_urls": (None, None, True, None),
    }
    return boto3.Session(botocore_session=botocore.session.Session(session_vars=defaults | own))


def _region(text: str) -> str:
    if not re.fullmatch(r"[a-z0-9-]{1,63}", text):
        raise ValueError(text)
    return text


def _translated(call: Callable[[], T], uri: str) -> T:
    try:
        return call()
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        slug = _SLUGS.get(code, "storage")
        raise StorageError(f"{uri}: {code or 'error'}", slug=slug) from error
    except BotoCoreError as error:
        raise StorageError(f"{uri}: {type(error).__name__}: the object store does not answer") from error
