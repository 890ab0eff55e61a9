"""What a partition holds: its products, a product, a picture of it, and the columns of its catalog."""

import io
import json
import re
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from flask import Flask, Response, request
from PIL import Image
from werkzeug.exceptions import NotFound

from server.reload import Snapshots
from shared.errors import BadPicture, BadQuestion, UnknownProduct
from shared.images import MAX_BYTES, MAX_EDGE, decode
from shared.products import ProductImage
from shared.refusals import Refusal
from shared.snapshot import Snapshot

MOST = 200
_LONGEST_TEXT = 200
# What a URL may hold as it is; anything else is escaped.
_URL = "%/:?#[]@!$&'()*+,;="


def add_browse(app: Flask, snapshots: Snapshots) -> None:
    """Add the routes. The application knows the converter `id`."""

    @app.get("/v1/<department>/<domain>/products")
    def products(department: str, domain: str) -> Response:
        snapshot = snapshots.get(f"{department}/{domain}")
        text, limit, offset = request.args.get("text", ""), _number("limit", 50, 1, MOST), _number("offset", 0, 0)
        if len(text) > _LONGEST_TEXT:
            raise BadQuestion(f"text has {len(text):,} characters; it may have {_LONGEST_TEXT}.")
        return _answer(snapshot, _products(snapshot, text, limit, offset))

    @app.get("/v1/<department>/<domain>/products/<id:product_id>")
    def product(department: str, domain: str, product_id: str) -> Response:
        snapshot = snapshots.get(f"{department}/{domain}")
        images = [snapshot.products.image(row) for row in _rows(snapshot, product_id)]
        shown = [{"image_id": i.image_id, "image_url": i.image_url, "attributes": i.attributes} for i in images]
        body = {"snapshot": snapshot.id, "product_id": images[0].product_id, "images": shown}
        return _answer(snapshot, json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode())

    @app.get("/v1/<department>/<domain>/products/<id:product_id>/image")
    def image(department: str, domain: str, product_id: str) -> Response:
        found = _image(snapshots.get(f"{department}/{domain}"), product_id, request.args.get("image_id"))
        size = _number("size", 320, 16, MAX_EDGE)
        if found.image_url.startswith(("https://", "http://")):
            place = quote(found.image_url, safe=_URL)
            return Response(status=302, headers={"Location": place, "Cache-Control": "private, max-age=300"})
        return _thumbnail(found, size)

    @app.get("/v1/<department>/<domain>/attributes")
    def attributes(department: str, domain: str) -> Response:
        snapshot = snapshots.get(f"{department}/{domain}")
        columns = [attribute.to_dict() for attribute in snapshot.listing.attributes]
        body = {"snapshot": snapshot.id, "attributes": columns}
        return _answer(snapshot, json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode())


def _products(snapshot: Snapshot, text: str, limit: int, offset: int) -> bytes:
    table = snapshot.products
    if text.strip():
        found = snapshot.listing.find(text)
        total, shown = len(found), found[offset : offset + limit].tolist()
    else:  # without reading the catalog
        total, shown = table.count, list(range(table.count)[offset : offset + limit])
    lines = b",".join(table.line(table.images(number).start) for number in shown)
    return b'{"snapshot":"%b","total":%d,"products":[%b]}' % (snapshot.id.encode(), total, lines)


def _rows(snapshot: Snapshot, product_id: str) -> range:
    number = snapshot.products.find(product_id)
    if number is None:
        raise UnknownProduct(f"The product {product_id!r} is not in the index of {snapshot.manifest.partition}.")
    return snapshot.products.images(number)


def _image(snapshot: Snapshot, product_id: str, image_id: str | None) -> ProductImage:
    """The product's image of that id; its first one where none is given."""
    images = (snapshot.products.image(row) for row in _rows(snapshot, product_id))
    for image in images:
        if image_id in (None, image.image_id):
            return image
    raise NotFound(f"The product {product_id!r} has no image {image_id!r:.80}.")


def _thumbnail(image: ProductImage, size: int) -> Response:
    """A picture of this host, decoded and encoded anew: whatever the catalog names, nothing but a picture gets out."""
    path, name = _path(image.image_url), f"The picture {image.image_id!r} of {image.product_id!r}"
    try:
        state = path.stat() if path and path.is_file() else None
        if path is None or state is None or state.st_size > MAX_BYTES:
            raise NotFound(f"{name} is not on this host.")
        answer = Response(mimetype="image/jpeg")
        answer.set_etag(f"{state.st_mtime_ns:x}-{state.st_size:x}-{size}")
        answer.headers["Cache-Control"] = "private, max-age=3600"
        answer.headers["X-Content-Type-Options"] = "nosniff"
        answer.make_conditional(request)
        if answer.status_code == 200:
            answer.set_data(_jpeg(path.read_bytes(), size))
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        raise NotFound(f"{name} cannot be read.") from error
    except BadPicture as error:
        raise NotFound(f"{name} is not one that can be shown: {error}") from error
    return answer


def _jpeg(data: bytes, size: int) -> bytes:
    picture = decode(data)
    if isinstance(picture, Refusal):
        raise BadPicture(picture.kind, picture.detail)
    image = Image.fromarray(picture)
    image.thumbnail((size, size))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=88)
    return file.getvalue()


def _path(url: str) -> Path | None:
    """Where a `file://` URL points on this host."""
    parts = urlsplit(url)
    return Path(unquote(parts.path)) if parts.scheme == "file" and parts.netloc in ("", "localhost") else None


def _number(name: str, default: int, low: int, high: int = 1_000_000_000) -> int:
    text = request.args.get(name, str(default))
    if not re.fullmatch("[0-9]{1,10}", text) or not low <= int(text) <= high:
        raise BadQuestion(f"{name} is {text!r:.40}; it must be a whole number from {low} to {high:,}.")
    return int(text)


def _answer(snapshot: Snapshot, body: bytes) -> Response:
    answer = Response(body, mimetype="application/json", headers={"Cache-Control": "no-cache"})
    answer.set_etag(snapshot.id)
    answer.make_conditional(request)
    return answer
