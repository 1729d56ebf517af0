"""One bucket of S3 (or of a server that speaks its API) as a place for copies that nobody can alter.

What is written carries its SHA-256, which the server checks, and is written once (``If-None-Match: *``). Credentials
come by AWS's usual chain alone (environment, shared files, web identity, instance role). One PutObject takes 5 GiB.
"""

from __future__ import annotations

import base64
import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import boto3  # type: ignore[import-untyped]
from botocore import exceptions as boto  # type: ignore[import-untyped]
from botocore.config import Config  # type: ignore[import-untyped]

from ringfence.errors import Conflict, Denied, Invalid, NotFound, NotSent, PlatformError, Throttled, Unanswered
from ringfence.model.base import Json

LARGEST = 5 << 30
"""Bytes of one PutObject: above it only parts are possible, and their checksum is not the file's."""
_CHUNK = 1 << 20
_THROTTLED = frozenset({"SlowDown", "Throttling", "ThrottlingException", "RequestLimitExceeded"})


@dataclass(frozen=True)
class Lock:
    """Object Lock of one object. ``mode`` is COMPLIANCE, GOVERNANCE, or empty for none; then ``until`` is None."""

    mode: str
    until: datetime | None
    legal_hold: bool


@dataclass(frozen=True)
class Stored:
    """One version of an object as the server describes it. ``sha256`` is hex, empty where the server keeps none."""

    version: str
    size: int
    sha256: str
    lock: Lock


@dataclass(frozen=True)
class Condition:
    """What the bucket is set to."""

    versioned: bool
    lockable: bool


class Bucket:
    """``endpoint_url`` and ``region`` None: AWS's own. Every method raises PlatformError."""

    def __init__(self, name: str, *, region: str | None, endpoint_url: str | None) -> None:
        self.name = name
        settings = Config(
            connect_timeout=3,
            read_timeout=30,
            retries={"total_max_attempts": 2, "mode": "standard"},
            # A server of one's own rarely has a name for each bucket.
            s3={"addressing_style": "path" if endpoint_url else "auto"},
        )
        with self._asked("connect", ""):
            session = boto3.session.Session()
            self._client: Any = session.client("s3", region_name=region, endpoint_url=endpoint_url, config=settings)

    def condition(self) -> Condition:
        with self._asked("get", "versioning"):
            versioning = self._client.get_bucket_versioning(Bucket=self.name)
        try:
            with self._asked("get", "object lock"):
                answer = self._client.get_object_lock_configuration(Bucket=self.name)
        except NotFound:
            answer = {}
        lock = answer.get("ObjectLockConfiguration", {}).get("ObjectLockEnabled")
        return Condition(versioning.get("Status") == "Enabled", lock == "Enabled")

    def put(self, key: str, path: Path, sha256: str, lock: Lock) -> Stored:
        """Write the file once. The same bytes there already are no error; others are a Conflict.

        ``sha256`` is the file's. The answer is read back from the server, with its lock.
        """
        more: Json = {"ObjectLockMode": lock.mode, "ObjectLockRetainUntilDate": lock.until} if lock.mode else {}
        if lock.legal_hold:
            more["ObjectLockLegalHoldStatus"] = "ON"
        checksum = base64.b64encode(bytes.fromhex(sha256)).decode()
        version = ""
        try:
            with self._asked("put", key), path.open("rb") as body:
                answer = self._client.put_object(
                    Bucket=self.name,
                    Key=key,
                    Body=body,
                    ChecksumAlgorithm="SHA256",
                    ChecksumSHA256=checksum,
                    IfNoneMatch="*",
                    **more,
                )
            version = answer.get("VersionId", "")
        except Conflict as error:
            if error.status != 412:
                raise
        stored = self.look(key, version)
        found = stored.sha256 or self.digest(key, stored.version)
        if found != sha256:
            raise Conflict(
                f"s3://{self.name}/{key} holds other bytes",
                system="s3",
                verb="put",
                target=key,
                why=f"sha256:{found}, to be written was sha256:{sha256}",
                next_step="keep it as it is: somebody wrote it; choose another vault.s3.prefix",
            )
        return stored

    def write(self, key: str, data: bytes, lock: Lock) -> Stored:
        """``put`` for bytes that are at hand."""
        with tempfile.NamedTemporaryFile(prefix="ringfence-") as file:
            file.write(data)
            file.flush()
            return self.put(key, Path(file.name), hashlib.sha256(data).hexdigest(), lock)

    def names(self, prefix: str, most: int) -> tuple[str, ...]:
        """The keys below ``prefix``, in order. Raises Invalid when there are more than ``most``."""
        found: list[str] = []
        more: Json = {}
        while True:
            with self._asked("list", prefix):
                answer = self._client.list_objects_v2(Bucket=self.name, Prefix=prefix, **more)
            found += (one["Key"] for one in answer.get("Contents", ()))
            if len(found) > most:
                where = f"s3://{self.name}/{prefix}"
                raise _error(Invalid, f"{where} has too many objects", "list", where, f"more than {most}", _WAY)
            if not answer.get("IsTruncated"):
                return tuple(sorted(found))
            more = {"ContinuationToken": answer["NextContinuationToken"]}

    def read(self, key: str, most: int) -> bytes:
        """The newest version's bytes; one byte more than ``most`` when it is larger."""
        with self._asked("get", key), self._client.get_object(Bucket=self.name, Key=key)["Body"] as body:
            data: bytes = body.read(most + 1)
            return data

    def look(self, key: str, version: str = "") -> Stored:
        """The object as it is; ``version`` empty: its newest."""
        with self._asked("head", key):
            found = self._client.head_object(Bucket=self.name, Key=key, ChecksumMode="ENABLED", **_version(version))
        checksum = found.get("ChecksumSHA256", "")
        return Stored(
            version=found.get("VersionId", version),
            size=found["ContentLength"],
            sha256=base64.b64decode(checksum).hex() if checksum and "-" not in checksum else "",
            lock=Lock(
                mode=found.get("ObjectLockMode", ""),
                until=found.get("ObjectLockRetainUntilDate"),
                legal_hold=found.get("ObjectLockLegalHoldStatus") == "ON",
            ),
        )

    def digest(self, key: str, version: str = "") -> str:
        """SHA-256 (hex) of the bytes that the server gives: read to their end, in flat memory."""
        digest = hashlib.sha256()
        with self._asked("get", key):
            body = self._client.get_object(Bucket=self.name, Key=key, **_version(version))["Body"]
            with body:
                while chunk := body.read(_CHUNK):
                    digest.update(chunk)
        return digest.hexdigest()

    def retain(self, key: str, version: str, lock: Lock) -> None:
        """Lock a version that is there already: S3 lets a retention grow, never shrink."""
        with self._asked("put", f"{key} (retention)"):
            self._client.put_object_retention(
                Bucket=self.name,
                Key=key,
                Retention={"Mode": lock.mode, "RetainUntilDate": lock.until},
                **_version(version),
            )

    def hold(self, key: str, version: str, *, on: bool) -> None:
        """Put a version under a legal hold, or take it from there."""
        with self._asked("put", f"{key} (legal hold)"):
            self._client.put_object_legal_hold(
                Bucket=self.name, Key=key, LegalHold={"Status": "ON" if on else "OFF"}, **_version(version)
            )

    @contextmanager
    def _asked(self, verb: str, target: str) -> Iterator[None]:
        where = f"s3://{self.name}/{target}" if target else f"s3://{self.name}"
        try:
            yield
        except boto.ClientError as error:
            raise _refused(error, verb, where) from error
        except (boto.EndpointConnectionError, boto.ConnectTimeoutError, boto.ProxyConnectionError) as error:
            raise _error(NotSent, f"{where} cannot be reached", verb, where, str(error), _WAY) from error
        except (boto.HTTPClientError, boto.ConnectionError) as error:
            raise _error(Unanswered, f"{where} did not answer", verb, where, str(error), _WAY) from error
        except (boto.BotoCoreError, ValueError) as error:
            # No credentials, no region, an address that is none: nothing was sent.
            raise _error(NotSent, f"{where} cannot be asked", verb, where, str(error), _CHAIN) from error
        except OSError as error:
            raise _error(Unanswered, f"{where} broke off", verb, where, error.strerror or str(error), _WAY) from error


_WAY = "check vault.s3 and the way to it"
_CHAIN = "credentials and region come by the usual AWS chain; vault.s3 names bucket, region and endpoint"


def _version(version: str) -> Json:
    return {"VersionId": version} if version else {}


def _refused(error: Any, verb: str, where: str) -> PlatformError:
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    code = error.response.get("Error", {}).get("Code", "")
    words = f"{code}: {error.response.get('Error', {}).get('Message', '')}"[:500]
    kind: type[PlatformError]
    if code in _THROTTLED or status == 429:
        kind = Throttled
    elif status in (401, 403):
        kind = Denied
    elif status in (404, 410):
        kind = NotFound
    elif status in (409, 412):
        kind = Conflict
    elif 400 <= status < 500:
        kind = Invalid
    else:
        kind = Unanswered
    return _error(kind, f"S3 refused to {verb} {where}", verb, where, words, "ringfence doctor", status)


def _error(
    kind: type[PlatformError], what: str, verb: str, where: str, why: str, next_step: str, status: int | None = None
) -> PlatformError:
    return kind(what, system="s3", verb=verb, target=where, why=why, next_step=next_step, status=status)
