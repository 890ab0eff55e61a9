"""Fetch catalog images by their ids, from `IMAGE_URL`, which may be a private host or a folder of this one."""

from collections.abc import Mapping

from server.fetching.fetcher import Fetcher, Policy
from shared.errors import BadPicture, BadQuestion
from shared.refusals import Kind, Refusal
from shared.storage.files import path_of
from shared.storage.url_template import UrlTemplate

# A redirect could lead to a host that the operator did not name.
POLICY = Policy(seconds=20.0, silence=5.0, redirects=0, proxies=True)


class CatalogImages:
    """The images at `IMAGE_URL`; None if it is not given. Raises `ConfigError` if it is no template."""

    def __init__(self, image_url: str | None) -> None:
        self._template = UrlTemplate(image_url) if image_url else None
        if self._template:
            self._template.check(self._template.fields)
        self._policy = POLICY
        self._fetcher = Fetcher(self._policy)

    def fetch(self, product_id: str, image_id: str, attributes: Mapping[str, str]) -> tuple[str, bytes]:
        """An image's URL and bytes. Raises `BadQuestion`, `BadPicture`."""
        if self._template is None:
            raise BadQuestion("Images cannot be had by their ids: IMAGE_URL is not set here. Send their bytes.")
        if lacking := self._template.fields - {"id", "size", "product_id_model", *attributes}:
            raise BadQuestion(f"IMAGE_URL needs the attributes {', '.join(sorted(lacking))}.")
        url = self._template.fill(product_id, image_id, attributes)
        if isinstance(url, Refusal):
            raise BadPicture(url.kind, f"Image {image_id!r:.80}: {url.detail}")
        try:
            return url, self._read_file(url) if url.startswith("file:") else self._fetcher.fetch(url)
        except BadPicture as error:
            raise BadPicture(error.kind, f"Image {image_id!r:.80} at {url}: {error}") from error

    def _read_file(self, url: str) -> bytes:
        most = self._policy.size
        try:
            with path_of(url).open("rb") as file:
                data = file.read(most + 1)
        except FileNotFoundError as error:
            raise BadPicture(Kind.GONE, "There is no such file.") from error
        except OSError as error:
            raise BadPicture(Kind.CONNECTION_FAILED, f"The file cannot be read: {error.strerror}.") from error
        if len(data) > most:
            raise BadPicture(Kind.TOO_LARGE, f"The image has more than {most:,} bytes.")
        return data
