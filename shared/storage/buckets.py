"""The buckets by the schemes of their addresses: `file://` and `s3://`."""

from shared.errors import ConfigError
from shared.storage.bucket import Bucket


def open_bucket(uri: str) -> Bucket:
    """The bucket at `file:///folder` or `s3://bucket/prefix`. Connects to nothing yet."""
    if uri.startswith("s3://"):
        from shared.storage.s3_bucket import S3Bucket

        return S3Bucket(uri)
    if uri.startswith("file:///"):
        from shared.storage.folder_bucket import FolderBucket

        return FolderBucket(uri)
    raise ConfigError(f"The depot {uri!r} is not one: give DEPOT=s3://bucket/prefix or DEPOT=file:///folder.")
