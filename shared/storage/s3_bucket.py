"""S3 as a bucket, and the only connection of the program to S3."""

import base64
import hashlib
import math
import random
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, IncompleteReadError
from botocore.exceptions import ConnectionError as Unreachable

from shared.errors import ConfigError, DepotError
from shared.storage.bucket import SMALL, Advance, Entry, Held

_PIECE = 1024 * 1024
_PART = 16 * _PIECE
_PARTS_AT_ONCE = 4
_CHECKED = {"ChecksumAlgorithm": "SHA256"}
# boto3 gives up within seconds; with these an outage of half a minute passes unseen, in the middle of a file too.
_ATTEMPTS = 20
_WAIT = (2.0, 5.0)
_BROKEN = (HTTPClientError, IncompleteReadError)  # a connection, while an object came over it
_MISSING = {"NoSuchKey", "404"}
_LOST = {"PreconditionFailed", "ConditionalRequestConflict", "412", "409", *_MISSING}


def aws_keys(path: Path = Path("config.py")) -> Mapping[str, str]:
    """Read the first library's `config.py`: lines `aws_access_key_id=..`, as text and never executed."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    names = "aws_access_key_id|aws_secret_access_key|aws_session_token"
    found = re.findall(rf"^\s*({names})\s*=\s*[\"']?([^\"'\s#]+)", text, re.MULTILINE)
    keys = dict(found)
    if keys and not {"aws_access_key_id", "aws_secret_access_key"} <= keys.keys():
        raise ConfigError(f"{path} must have both aws_access_key_id=.. and aws_secret_access_key=.., or neither.")
    return keys


def s3_client() -> Any:
    """A client with the keys of `config.py` if there is one, else by boto3's own chain."""
    patient = Config(connect_timeout=5, read_timeout=60, retries={"mode": "standard", "max_attempts": 5})
    return boto3.Session(**aws_keys()).client("s3", config=patient)


class S3Bucket:
    """A `Bucket` at `s3://bucket/prefix`."""

    def __init__(self, uri: str) -> None:
        name, _, prefix = uri.removeprefix("s3://").rstrip("/").partition("/")
        if not name:
            raise ConfigError(f"The depot {uri!r} names no bucket: it must read s3://bucket/prefix.")
        self.uri = uri.rstrip("/")
        self._place = {"Bucket": name}
        self._prefix = f"{prefix}/" if prefix else ""
        with self._named():
            self._client = s3_client()
        self._client.meta.events.register("needs-retry.s3", _outlast)

    def read(self, key: str) -> Held | None:
        with self._named(key):
            try:
                answer = self._client.get_object(**self._object(key))
                try:
                    data = _beginning(answer["Body"])
                except _BROKEN:
                    answer = self._client.get_object(**self._object(key))
                    data = _beginning(answer["Body"])
            except ClientError as error:
                if _code(error) in _MISSING:
                    return None
                raise
            return Held(data, answer["ETag"])

    def replace(self, key: str, data: bytes, tag: str | None) -> bool:
        condition = {"IfMatch": tag} if tag else {"IfNoneMatch": "*"}
        with self._named(key):
            try:
                self._client.put_object(**self._object(key), Body=data, **condition)
            except ClientError as error:
                if _code(error) not in _LOST:
                    raise
                # A put that was retried after its answer got lost finds its own content there.
                held = self.read(key)
                return held is not None and held.data == data
        return True

    def upload(self, path: Path, key: str, advance: Advance) -> None:
        size = path.stat().st_size
        with self._named(key):
            if size <= _PART:
                self._client.put_object(**self._object(key), Body=path.read_bytes(), **_CHECKED)
                return advance(size)
            upload, sent = self._begun(key)

            def part(number: int) -> dict[str, Any]:
                return self._part(path, upload, number, sent.get(number, {}), advance)

            try:
                with ThreadPoolExecutor(_PARTS_AT_ONCE) as pool:
                    parts = list(pool.map(part, range(1, math.ceil(size / _PART) + 1)))
                self._client.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
            except ClientError as error:
                if _code(error) != "NoSuchUpload":  # else somebody ended it, who sent the same
                    raise

    def _begun(self, key: str) -> tuple[dict[str, str], dict[int, dict[str, Any]]]:
        """An interrupted upload of that object, and its parts by number; else a new one without any."""
        place = self._object(key)
        pages = self._client.get_paginator("list_multipart_uploads").paginate(**self._place, Prefix=place["Key"])
        begun = [each for page in pages for each in page.get("Uploads", ()) if each["Key"] == place["Key"]]
        if not begun:
            return {**place, "UploadId": self._client.create_multipart_upload(**place, **_CHECKED)["UploadId"]}, {}
        upload = {**place, "UploadId": begun[-1]["UploadId"]}
        sent = self._client.get_paginator("list_parts").paginate(**upload)
        return upload, {each["PartNumber"]: each for page in sent for each in page.get("Parts", ())}

    def _part(
        self, path: Path, upload: dict[str, str], number: int, sent: dict[str, Any], advance: Advance
    ) -> dict[str, Any]:
        """Send one part, unless it was sent already; return its entry in the end of the upload."""
        with path.open("rb") as file:
            file.seek((number - 1) * _PART)
            data = file.read(_PART)
        sha256 = base64.b64encode(hashlib.sha256(data).digest()).decode()
        tag = f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'
        # Not every server lists checksums, and not every tag is an MD5.
        if sha256 != sent.get("ChecksumSHA256") and tag != sent.get("ETag"):
            sent = self._client.upload_part(**upload, PartNumber=number, Body=data, ChecksumSHA256=sha256)
        advance(len(data))
        return {"PartNumber": number, "ETag": sent["ETag"], "ChecksumSHA256": sha256}

    def stream(self, key: str, start: int = 0) -> Iterator[bytes]:
        stuck = False  # a connection that broke without having brought anything
        while True:
            with self._named(key):
                try:
                    where = {"Range": f"bytes={start}-"} if start else {}
                    body = self._client.get_object(**self._object(key), **where)["Body"]
                except ClientError as error:
                    if _code(error) in ("InvalidRange", "416"):
                        return
                    if _code(error) in _MISSING:
                        raise KeyError(key) from error
                    raise
                try:
                    for piece in body.iter_chunks(_PIECE):
                        yield piece
                        start, stuck = start + len(piece), False
                    return
                except _BROKEN:
                    if stuck:
                        raise
                    stuck = True
                finally:
                    body.close()  # of one who has enough the rest is not received

    def entries(self, prefix: str) -> Iterator[Entry]:
        with self._named():
            pages = self._client.get_paginator("list_objects_v2").paginate(**self._place, Prefix=self._prefix + prefix)
            for page in pages:
                for item in page.get("Contents", ()):
                    key = item["Key"].removeprefix(self._prefix)
                    yield Entry(key, item["Size"], item["LastModified"], item["ETag"])

    def delete(self, key: str) -> None:
        with self._named(key):
            self._client.delete_object(**self._object(key))

    def _object(self, key: str) -> dict[str, str]:
        return {**self._place, "Key": self._prefix + key}

    @contextmanager
    def _named(self, key: str = "") -> Iterator[None]:
        place = f"{self.uri}/{key}" if key else self.uri
        try:
            yield
        except ClientError as error:
            problem = error.response["Error"]
            reason = f"{problem.get('Code')}: {problem.get('Message')}".rstrip(".")
            raise DepotError(f"{place} cannot be used ({reason}). Check DEPOT=, the keys and their rights.") from error
        except (BotoCoreError, ValueError) as error:
            told = re.sub(r"//[^/@\s]*@", "//", str(error))  # a password in AWS_ENDPOINT_URL
            raise DepotError(f"{place} cannot be used: {told}".rstrip(".") + ".") from error


def _beginning(body: Any) -> bytes:
    """The first `SMALL + 1` bytes at most. Only reading on to the end tells whether the connection broke before it."""
    with closing(body):
        data = b""
        while piece := body.read(SMALL + 1 - len(data)):
            data += piece
            if len(data) > SMALL:
                break
        return data


def _outlast(attempts: int, response: Any = None, caught_exception: Exception | None = None, **_: Any) -> float | None:
    """The seconds after which boto3 asks again when its own patience has ended. For every call, each part's too."""
    away = isinstance(caught_exception, Unreachable | HTTPClientError) or (response and response[0].status_code >= 500)
    return random.uniform(*_WAIT) if away and attempts < _ATTEMPTS else None


def _code(error: ClientError) -> str:
    return str(error.response["Error"].get("Code"))
