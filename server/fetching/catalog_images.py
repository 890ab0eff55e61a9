"""Images that are named by their ids: fetched from where the template says, and from nowhere else."""

import http.client
import io
import time
import urllib.error
import urllib.request
from collections.abc import Mapping

from shared.errors import BadPicture, BadQuestion
from shared.images.decode import MAX_BYTES
from shared.refusals import Kind, Refusal
from shared.storage.files import path_of
from shared.storage.url_template import UrlTemplate

_SILENCE, _TOTAL = 5.0, 20.0  # seconds
_PART = 64 * 1024


class CatalogImages:
    """Where images lie, as `IMAGE_URL` says; None where nothing does. Raises `ConfigError` if that is no template."""

    def __init__(self, image_url: str | None) -> None:
        self._template = UrlTemplate(image_url) if image_url else None
        if self._template:
            self._template.check(self._template.fields)
        self._opener = urllib.request.build_opener(_NoRedirect)

    def fetch(self, product_id: str, image_id: str, attributes: Mapping[str, str]) -> tuple[str, bytes]:
        """An image's URL and bytes. Raises `BadQuestion`, `BadPicture`."""
        if self._template is None:
            raise BadQuestion("Images cannot be had by their ids: IMAGE_URL is not set here. Send their bytes.")
        if lacking := self._template.fields - {"id", "size", "product_id_model", *attributes}:
            raise BadQuestion(f"IMAGE_URL needs the attributes {', '.join(sorted(lacking))}.")
        url = self._template.fill(product_id, image_id, attributes)
        found = url if isinstance(url, Refusal) else self._get(url)
        if isinstance(found, Refusal):
            raise BadPicture(found.kind, f"Image {image_id!r:.80}: {found.detail}")
        return str(url), found

    def _get(self, url: str) -> bytes | Refusal:
        deadline = time.monotonic() + _TOTAL
        try:
            if url.startswith("file:"):
                with path_of(url).open("rb") as file:
                    return _bounded(file, deadline)
            request = urllib.request.Request(url, headers={"User-Agent": "image-similarity", "Accept": "image/*"})
            with self._opener.open(request, timeout=_SILENCE) as answer:
                return _bounded(answer, deadline)
        except urllib.error.HTTPError as error:
            error.close()
            kinds = {404: Kind.GONE, 410: Kind.GONE, **dict.fromkeys((301, 302, 303, 307, 308), Kind.REFUSED_REDIRECT)}
            return Refusal(kinds.get(error.code, Kind.HTTP_ERROR), f"{url} answers {error.code}.")
        except FileNotFoundError:
            return Refusal(Kind.GONE, f"There is no file {url}.")
        except TimeoutError:
            return Refusal(Kind.TIMEOUT, f"{url} took too long.")
        except (OSError, http.client.HTTPException, ValueError) as error:
            return Refusal(Kind.CONNECTION_FAILED, f"{url} cannot be had: {error}.")


def _bounded(file: io.BufferedIOBase, deadline: float) -> bytes | Refusal:
    data = bytearray()
    while part := file.read1(_PART):  # whatever has come
        data += part
        if len(data) > MAX_BYTES:
            return Refusal(Kind.TOO_LARGE, f"The image has more than {MAX_BYTES:,} bytes.")
        if time.monotonic() > deadline:
            raise TimeoutError
    return bytes(data)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect is an error: it could lead to another host."""

    def redirect_request(self, *_: object) -> None:
        return None
