"""Routes to browse a partition: its products, one product, a picture of it, and the columns of its catalog."""

from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from flask import Response, request
from flask_openapi3 import OpenAPI, Tag
from werkzeug.exceptions import NotFound

from server.api.requests import Browsing, PartitionPath, ProductPath, Thumbnail
from server.api.responses import Column, Columns, Image, ListedProduct, Product, Products, answer
from server.serving.snapshots import Snapshots
from shared.errors import BadPicture, JournalDamaged
from shared.images.decode import MAX_BYTES
from shared.images.encode import thumbnail
from shared.index.product_table import ProductImage
from shared.live.journal import Journal
from shared.live.reading import UPLOADED
from shared.refusals import Refusal
from shared.snapshot.view import SnapshotView
from shared.storage.files import path_of

_TAGS = [Tag(name="catalog", description="What is there?")]
_PICTURE: Any = {
    200: {"description": "A JPEG", "content": {"image/jpeg": {"schema": {"type": "string", "format": "binary"}}}},
    302: {"description": "The picture is at `Location`"},
}
# What a URL may hold as it is; anything else is escaped.
_URL_CHARACTERS = "%/:?#[]@!$&'()*+,;="


def add_browse(app: OpenAPI, snapshots: Snapshots) -> None:
    """Add the routes."""

    @app.get("/v1/<department>/<domain>/products", tags=_TAGS, responses={200: Products})
    def products(path: PartitionPath, query: Browsing) -> Response:
        """Products, all or those that a text finds"""
        snapshot = snapshots.get(path.partition)
        return answer(snapshot, _products(snapshot, query).model_dump_json())

    @app.get("/v1/<department>/<domain>/products/<id:product_id>", tags=_TAGS, responses={200: Product})
    def product(path: ProductPath) -> Response:
        """A product and its images"""
        snapshot = snapshots.get(path.partition)
        return answer(snapshot, _product(snapshot, path.product_id).model_dump_json())

    @app.get("/v1/<department>/<domain>/products/<id:product_id>/image", tags=_TAGS, responses=_PICTURE)
    def image(path: ProductPath, query: Thumbnail) -> Response:
        """A picture of a product, or where it lies on the web"""
        snapshot = snapshots.get(path.partition)
        found = _image(snapshot, path.product_id, query.image_id)
        if found.image_url.startswith(UPLOADED):
            return _uploaded(snapshots.journal(snapshot), found, query.size)
        if not found.image_url.startswith(("https://", "http://")):
            return _thumbnail(found, query.size)
        place = quote(found.image_url, safe=_URL_CHARACTERS)
        return Response(status=302, headers={"Location": place, "Cache-Control": "private, max-age=300"})

    @app.get("/v1/<department>/<domain>/attributes", tags=_TAGS, responses={200: Columns})
    def attributes(path: PartitionPath) -> Response:
        """The columns of the catalog, and their most frequent values"""
        snapshot = snapshots.get(path.partition)
        columns = [Column.model_validate(attribute) for attribute in snapshot.listing.attributes]
        return answer(snapshot, Columns(snapshot=snapshot.id, attributes=columns).model_dump_json(exclude_none=True))


def _products(snapshot: SnapshotView, query: Browsing) -> Products:
    """The requested page of products."""
    table, listing = snapshot.products, snapshot.listing
    found = listing.find(query.text) if query.text.strip() else listing.all()
    page = (table.image(table.images(int(number)).start) for number in found[query.offset : query.offset + query.limit])
    listed = [ListedProduct.model_validate(image) for image in page]
    return Products(snapshot=snapshot.id, total=len(found), products=listed)


def _product(snapshot: SnapshotView, product_id: str) -> Product:
    images = [Image.model_validate(snapshot.products.image(row)) for row in _rows(snapshot, product_id)]
    return Product(snapshot=snapshot.id, product_id=product_id, images=images)


def _rows(snapshot: SnapshotView, product_id: str) -> range:
    return snapshot.products.images(snapshot.number(product_id))


def _image(snapshot: SnapshotView, product_id: str, image_id: str | None) -> ProductImage:
    """The product's image of that id; its first one if none is given."""
    images = (snapshot.products.image(row) for row in _rows(snapshot, product_id))
    for image in images:
        if image_id in (None, image.image_id):
            return image
    raise NotFound(f"The product {product_id!r} has no image {image_id!r:.80}.")


def _thumbnail(image: ProductImage, size: int) -> Response:
    """A picture of this host, decoded and encoded anew, so that nothing but a picture gets out."""
    path, name = _path(image.image_url), f"The picture {image.image_id!r} of {image.product_id!r}"
    try:
        state = path.stat() if path and path.is_file() else None
        if path is None or state is None or state.st_size > MAX_BYTES:
            raise NotFound(f"{name} is not on this host.")
        shown = Response(mimetype="image/jpeg")
        shown.set_etag(f"{state.st_mtime_ns:x}-{state.st_size:x}-{size}")
        shown.headers["Cache-Control"] = "private, max-age=3600"
        shown.make_conditional(request)
        if shown.status_code == 200:
            shown.set_data(_jpeg(path.read_bytes(), size))
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        raise NotFound(f"{name} cannot be read.") from error
    except BadPicture as error:
        raise NotFound(f"{name} is not one that can be shown: {error}") from error
    return shown


def _uploaded(journal: Journal, image: ProductImage, size: int) -> Response:
    """A picture that was put live, from the journal."""
    with journal.reading() as reading:
        data = reading.picture(image.image_url)
    if problem := journal.problem(reading) if data is None else "":
        raise JournalDamaged(problem)
    if data is None:
        raise NotFound(f"The picture {image.image_id!r} of {image.product_id!r} is no longer kept.")
    shown = Response(_jpeg(data, size), mimetype="image/jpeg", headers={"Cache-Control": "private, max-age=3600"})
    shown.set_etag(f"{image.image_url.removeprefix(UPLOADED)}-{size}")
    shown.make_conditional(request)
    return shown


def _jpeg(data: bytes, size: int) -> bytes:
    small = thumbnail(data, size)
    if isinstance(small, Refusal):
        raise BadPicture(small.kind, small.detail)
    return small


def _path(url: str) -> Path | None:
    """The path on this host that a `file://` URL names."""
    parts = urlsplit(url)
    return path_of(url) if parts.scheme == "file" and parts.netloc in ("", "localhost") else None
