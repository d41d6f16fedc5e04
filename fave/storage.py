"""The object store through boto3: whole objects from memory, conditional writes, `s3://` addresses."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from fave.endpoints import DEFAULT_BUCKET
from fave.errors import StorageError

T = TypeVar("T")
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


class Store:
    """One client. Threads may share it."""

    def __init__(self, *, endpoint_url: str, access_key: str, secret_key: str, bucket: str) -> None:
        self.bucket = bucket
        self.client: Any = boto3.client(
            "s3",
            endpoint_url=endpoint_url or None,
            aws_access_key_id=access_key or None,
            aws_secret_access_key=secret_key or None,
            region_name=os.environ.get("AWS_REGION", "us-east-1"),
            config=Config(
                retries={"max_attempts": 4, "mode": "standard"},
                connect_timeout=3,
                read_timeout=60,
                max_pool_connections=32,
                s3={"addressing_style": "path"},
            ),
        )

    @classmethod
    def from_environment(cls) -> Store:
        """From S3_ENDPOINT_URL, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and FAVE_BUCKET."""
        get = os.environ.get
        return cls(
            endpoint_url=get("S3_ENDPOINT_URL", ""),
            access_key=get("AWS_ACCESS_KEY_ID", ""),
            secret_key=get("AWS_SECRET_ACCESS_KEY", ""),
            bucket=get("FAVE_BUCKET", DEFAULT_BUCKET),
        )

    def uri(self, key: str) -> str:
        return str(Address(self.bucket, key))

    def get(self, uri: str) -> bytes:
        return self.get_versioned(uri)[0]

    def get_versioned(self, uri: str) -> tuple[bytes, str]:
        """The object and its ETag, for a later `put(..., if_match=...)`."""
        address = parse_uri(uri)

        def read() -> tuple[bytes, str]:
            reply = self.client.get_object(Bucket=address.bucket, Key=address.key)
            return reply["Body"].read(), reply["ETag"]

        return _translated(read, uri)

    def put(self, uri: str, data: bytes, *, content_type: str = "", if_match: str = "", create: bool = False) -> str:
        """Write from memory, with the SDK's checksum. Returns the ETag.

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

    def exists(self, uri: str) -> bool:
        address = parse_uri(uri)
        try:
            _translated(lambda: self.client.head_object(Bucket=address.bucket, Key=address.key), uri)
        except StorageError as error:
            if error.slug == "not-found":
                return False
            raise
        return True

    def keys(self, prefix: str) -> list[str]:
        """Every key of the own bucket under `prefix`, in the store's order."""

        def listing() -> list[str]:
            pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
            return [item["Key"] for page in pages for item in page.get("Contents", ())]

        return _translated(listing, self.uri(prefix or "*"))


def _translated(call: Callable[[], T], uri: str) -> T:
    try:
        return call()
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        slug = _SLUGS.get(code, "storage")
        raise StorageError(f"{uri}: {code or 'error'}", slug=slug) from error
    except BotoCoreError as error:
        raise StorageError(f"{uri}: {type(error).__name__}: the object store does not answer") from error
