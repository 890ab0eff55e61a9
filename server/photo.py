"""A photo out of a request: the raw body, the one file of a multipart form, or base64 in JSON."""

import base64
import binascii

from flask import Request
from gunicorn.http.errors import ParseException

from shared.errors import BadQuestion
from shared.images import MAX_BYTES

# A photo in base64, and a little for what surrounds it.
MAX_BODY = MAX_BYTES * 4 // 3 + 64 * 1024


def photo_of(request: Request) -> bytes:
    """The bytes of the photo. Raises `BadQuestion` where there is none, more than one, or not all of it."""
    try:
        return _photo(request)
    except (OSError, RecursionError, ParseException) as error:
        raise BadQuestion(f"The body cannot be read: {type(error).__name__}. Send it again.") from error


def _photo(request: Request) -> bytes:
    if request.mimetype == "multipart/form-data":
        return _from_form(request)
    if request.mimetype == "application/json":
        return _from_json(request)
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


def _from_json(request: Request) -> bytes:
    fields = request.get_json(silent=True)
    if not isinstance(fields, dict):
        raise BadQuestion('The body is not a JSON object. Send {"image_base64": ".."}.')
    if "image_url" in fields:
        raise BadQuestion('Photos by URL are not enabled on this server. Send {"image_base64": ".."}.')
    text = fields.get("image_base64")
    if not isinstance(text, str) or not text:
        raise BadQuestion('The JSON object has no text "image_base64".')
    return from_base64(text)


def from_base64(text: str) -> bytes:
    """The bytes of an image in base64, or in a data URL. Raises `BadQuestion`."""
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadQuestion(f'"image_base64" is not base64: {error}.') from error
