"""Sources of catalogs: S3, a file, or a folder of pictures."""

from dataclasses import dataclass
from pathlib import Path

from indexer.catalog.parsing import Catalog, checked, folder_rows, parse_catalog
from shared.errors import CatalogError
from shared.partition import Partition
from shared.storage.url_template import UrlTemplate

MAX_BYTES = 1024 * 1024 * 1024
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".avif"}
_NO_CREDENTIALS = (
    "There are no AWS credentials to read {uri}. Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or a config.py, see "
    "the README), or give a file or a folder of pictures: CATALOG=path. To see it work on a drawn sample: make demo."
)


@dataclass(frozen=True, slots=True)
class Source:
    """A catalog's place, filled in for one partition, and where its images lie unless the user says otherwise."""

    uri: str
    image_url: UrlTemplate

    @classmethod
    def of(cls, catalog: str, image_url: str | None, default_url: str, partition: Partition) -> "Source":
        """Fill `{department}` and `{domain}` in. A folder of pictures is its own image server."""
        uri = catalog.replace("{department}", partition.department).replace("{domain}", partition.domain)
        if image_url is None and not uri.startswith("s3://") and Path(uri).is_dir():
            image_url = Path(uri).resolve().as_uri() + "/{path}"
        return cls(uri, UrlTemplate(image_url or default_url))

    def read(self, limit: int | None = None) -> Catalog:
        """Read the catalog. Raises `CatalogError` if it is missing or cannot be read as one."""
        if self.uri.startswith("s3://"):
            data, etag = _read_s3(self.uri)
            catalog = parse_catalog(data, self.uri, etag, limit)
        elif Path(self.uri).is_dir():
            catalog = _read_folder(Path(self.uri), limit)
        else:
            catalog = parse_catalog(_read_file(Path(self.uri)), self.uri, "", limit)
        self.image_url.check(catalog.columns)
        return catalog


def _read_s3(uri: str) -> tuple[bytes, str]:
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

    from shared.storage.s3_bucket import s3_client

    bucket, _, key = uri.removeprefix("s3://").partition("/")
    if not bucket or not key:
        raise CatalogError(f"{uri} is not an S3 object: it must read s3://bucket/key.")
    try:
        answer = s3_client().get_object(Bucket=bucket, Key=key)
        if answer["ContentLength"] > MAX_BYTES:
            raise CatalogError(f"The catalog {uri} has {answer['ContentLength']:,} bytes; the limit is {MAX_BYTES:,}.")
        return answer["Body"].read(), answer["ETag"].strip('"')
    except NoCredentialsError as error:
        raise CatalogError(_NO_CREDENTIALS.format(uri=uri)) from error
    except ClientError as error:
        problem = error.response["Error"]
        reason = f"{problem.get('Code')}: {problem.get('Message')}".rstrip(".")
        raise CatalogError(
            f"The catalog {uri} cannot be read from S3 ({reason}). Check its name and the keys."
        ) from error
    except (BotoCoreError, ValueError) as error:
        raise CatalogError(f"The catalog {uri} cannot be read from S3: {error}") from error


def _read_file(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise CatalogError(f"The catalog {path} has {path.stat().st_size:,} bytes; the limit is {MAX_BYTES:,}.")
        return path.read_bytes()
    except OSError as error:
        raise CatalogError(f"The catalog {path} cannot be read: {error.strerror}. Check CATALOG=.") from error


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and path.is_file()


def _read_folder(folder: Path, limit: int | None) -> Catalog:
    try:
        next(folder.iterdir(), None)  # what it may not read, `rglob` passes over in silence
    except OSError as error:
        raise CatalogError(f"The folder {folder} cannot be read: {error.strerror}. Check CATALOG=.") from error
    pictures = sorted(path.relative_to(folder) for path in folder.rglob("*") if _is_picture(path))
    if not pictures:
        raise CatalogError(f"The folder {folder} has no pictures ({', '.join(sorted(SUFFIXES))}).")
    return checked(folder_rows(pictures[:limit]), str(folder), "", ("path", "category"))
