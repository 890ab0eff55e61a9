"""Read the photo of a request: its raw body, the one file of its form, or JSON with the photo or its URL."""

import base64
import binascii
from collections.abc import Callable
from typing import Any

from flask import Request
from gunicorn.http.errors import ParseException
from werkzeug.exceptions import BadRequest

from shared.errors import BadQuestion
from shared.images.decode import MAX_BYTES

# A photo in base64, and a little for what surrounds it.
MAX_BODY = MAX_BYTES * 4 // 3 + 64 * 1024


MOST_PARTS, MOST_LISTED = 100_000, 1_100_000


class CheckedRequest(Request):
    """A request whose JSON is the body's, whatever its type is said to be. Raises `BadQuestion` if it is none, or has
    too many parts: they are counted before it is parsed, for each may take 60 bytes of memory or more."""

    def get_json(self, force: bool = True, silent: bool = False, cache: bool = True) -> Any:
        body = self.get_data()
        most = MOST_LISTED if self.path.endswith("/availability") else MOST_PARTS
        if (parts := sum(map(body.count, (b"{", b"[", b",", b":")))) > most:
            raise BadQuestion(f"The JSON has {parts:,} braces, brackets, commas and colons; the limit is {most:,}.")
        try:
            return super().get_json(force=True, silent=False, cache=cache)
        except (BadRequest, OSError, RecursionError, ParseException) as error:
            raise BadQuestion("The body is not JSON, or not all of it. Send a JSON object.") from error


def photo_of(request: Request, fetch: Callable[[str], bytes]) -> bytes:
    """The bytes of the photo; `fetch` returns those of a URL. Raises `BadQuestion` if there is none, more than one, or
    not all of it."""
    try:
        return _photo(request, fetch)
    except (OSError, RecursionError, ParseException) as error:
        raise BadQuestion(f"The body cannot be read: {type(error).__name__}. Send it again.") from error


def from_base64(text: str) -> bytes:
    """Decode base64, with or without `data:..,` before it. Raises `BadQuestion`."""
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadQuestion(f'"image_base64" is not base64: {error}.') from error


def _photo(request: Request, fetch: Callable[[str], bytes]) -> bytes:
    if request.mimetype == "multipart/form-data":
        return _from_form(request)
    if request.mimetype == "application/json":
        return _from_json(request, fetch)
    body = request.get_data(cache=False, parse_form_data=False)
    if not body:
        raise BadQuestion("The body is empty. Send the bytes of one image.")
    if len(body) < (request.content_length or 0):
        raise BadQuestion(f"The body ends after {len(body)} of {request.content_length} bytes. Send it again.")
    return body


def _from_form(request: Request) -> bytes:
    files = [file for _, values in request.files.lists() for file in values]
    if len(files) != 1 or "image" not in request.files:
        raise BadQuestion(f"The form has {len(files)} files. Send one, in the field 'image'.")
    photo: bytes = files[0].read()
    return photo


def _from_json(request: Request, fetch: Callable[[str], bytes]) -> bytes:
    fields = request.get_json()
    if not isinstance(fields, dict):
        raise BadQuestion('The body is not a JSON object. Send {"image_base64": ".."}.')
    given = [name for name in ("image_base64", "image_url") if isinstance(fields.get(name), str) and fields[name]]
    if len(given) != 1:
        raise BadQuestion('The JSON object must have one text, "image_base64" or "image_url".')
    return from_base64(fields["image_base64"]) if given == ["image_base64"] else fetch(fields["image_url"])
