"""Routes that change a catalog between index runs: availability, pins, and products that are put and deleted.

What was answered is on the disk, and in every worker's answers within a second.
"""

from collections.abc import Iterable
from threading import BoundedSemaphore
from typing import Annotated, Any, Literal

from flask import Response, request
from flask_openapi3 import OpenAPI, Tag
from pydantic import BaseModel, Field, model_validator

from server.api.requests import PartitionPath, ProductPath
from server.api.responses import model_answer
from server.api.uploads import LONGEST_ID, Id, PutProduct, product_of
from server.fetching.catalog_images import CatalogImages
from server.middleware.audit import tell
from server.middleware.routes import require
from server.serving.live_changes import raw_vectors
from server.serving.snapshots import Snapshots
from shared.errors import BadPicture, BadQuestion, Busy
from shared.live.changes import catalog_vectors, merged_up_to
from shared.live.reading import Pins
from shared.refusals import Kind
from shared.snapshot.view import SnapshotView, Space
from shared.vectors.unit import usable

PUTS_AT_ONCE = 4  # the others of a worker's threads go on answering
_TAGS = [Tag(name="live", description="Changes to the catalog between index runs. Admins only.")]
_SCHEMA = PutProduct.model_json_schema()
# In an operation's own part of the document, references to parts of the schema would lead nowhere.
_SCHEMA["properties"]["images"]["items"] = _SCHEMA.pop("$defs")["PutImage"]
_PRODUCT: Any = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": _SCHEMA},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["image"],
                    "properties": {
                        "image": {"type": "array", "items": {"type": "string", "format": "binary"}},
                        "attributes": {"type": "string", "description": "JSON"},
                    },
                }
            },
        },
    }
}
_Ids = Annotated[list[Id], Field(max_length=1_000_000)]
_Few = Annotated[list[Id], Field(max_length=1000)]


class Unavailable(BaseModel):
    """The products that are out of stock: they can be queries, and are never answers."""

    unavailable: _Ids


class Availability(BaseModel):
    """Products that went out of stock, and those that are back."""

    unavailable: _Ids = []
    available: _Ids = []

    @model_validator(mode="after")
    def _apart(self) -> "Availability":
        if both := set(self.unavailable) & set(self.available):
            raise ValueError(f"{min(both)!r:.40} is both")
        return self


class PutPins(BaseModel):
    """The pins of a product: the products that its answers begin with, in this order, and those that are never among
    them."""

    pinned: _Few = []
    blocked: _Few = []

    @model_validator(mode="after")
    def _apart(self) -> "PutPins":
        if both := set(self.pinned) & set(self.blocked):
            raise ValueError(f"{min(both)!r:.40} is both pinned and blocked")
        return self


class Drop(BaseModel):
    """The products whose changes to forget: all, if none is named."""

    product_id: list[Id] | None = None


class AreUnavailable(BaseModel):
    unavailable: list[str]


class ArePinned(BaseModel):
    pinned: list[str]
    blocked: list[str]


class Kept(BaseModel):
    """The number of the change, which is on the disk."""

    change: int


class ListKept(Kept):
    """The number of the change. `unknown`: the ids that no product has by now. They are kept: their products may
    come."""

    unknown: list[str]


class ProductKept(Kept):
    images: int


class Change(BaseModel):
    product_id: str
    change: int
    made: str
    what: Literal["put", "deleted"]
    indexed: bool


class Changes(BaseModel):
    snapshot: str
    changes: list[Change]


class Dropped(BaseModel):
    dropped: int


def add_live(app: OpenAPI, snapshots: Snapshots, catalog_images: CatalogImages) -> None:
    """Add the routes."""
    _add_availability(app, snapshots)
    _add_pins(app, snapshots)
    _add_products(app, snapshots, catalog_images)
    _add_changes(app, snapshots)


def _add_availability(app: OpenAPI, snapshots: Snapshots) -> None:
    @app.get("/v1/<department>/<domain>/availability", tags=_TAGS, responses={200: AreUnavailable})
    @require("admin")
    def get_availability(path: PartitionPath) -> Response:
        """Products that are out of stock"""
        with snapshots.journal(snapshots.get(path.partition)).reading() as reading:
            return model_answer(AreUnavailable(unavailable=sorted(reading.unavailable())))

    @app.put("/v1/<department>/<domain>/availability", tags=_TAGS, responses={200: ListKept})
    @require("admin")
    def put_availability(path: PartitionPath, body: Unavailable) -> Response:
        """These and no others are out of stock"""
        snapshot = snapshots.get(path.partition)
        tell(request.environ, path.partition, unavailable=body.unavailable)
        change = snapshots.journal(snapshot).set_available(body.unavailable)
        return model_answer(ListKept(change=change, unknown=_unknown(snapshot, body.unavailable)))

    @app.patch("/v1/<department>/<domain>/availability", tags=_TAGS, responses={200: ListKept})
    @require("admin")
    def patch_availability(path: PartitionPath, body: Availability) -> Response:
        """These are out of stock, too, and those no longer"""
        snapshot = snapshots.get(path.partition)
        tell(request.environ, path.partition, unavailable=body.unavailable, available=body.available)
        change = snapshots.journal(snapshot).set_available(body.unavailable, body.available)
        return model_answer(ListKept(change=change, unknown=_unknown(snapshot, body.unavailable)))


def _add_pins(app: OpenAPI, snapshots: Snapshots) -> None:
    @app.get("/v1/<department>/<domain>/products/<id:product_id>/pins", tags=_TAGS, responses={200: ArePinned})
    @require("admin")
    def get_pins(path: ProductPath) -> Response:
        """The pinned and the blocked products of a product"""
        with snapshots.journal(snapshots.get(path.partition)).reading() as reading:
            pins = reading.pins().get(path.product_id, Pins())
        return model_answer(ArePinned(pinned=list(pins.pinned), blocked=list(pins.blocked)))

    @app.put("/v1/<department>/<domain>/products/<id:product_id>/pins", tags=_TAGS, responses={200: ListKept})
    @require("admin")
    def put_pins(path: ProductPath, body: PutPins) -> Response:
        """Pin these, and block those"""
        snapshot, product_id = snapshots.get(path.partition), _checked_id(path)
        pins = Pins(tuple(dict.fromkeys(body.pinned)), tuple(dict.fromkeys(body.blocked)))
        tell(request.environ, path.partition, product_id=product_id, pinned=pins.pinned, blocked=pins.blocked)
        change = snapshots.journal(snapshot).pin(product_id, pins)
        return model_answer(
            ListKept(change=change, unknown=_unknown(snapshot, [product_id, *pins.pinned, *pins.blocked]))
        )

    @app.delete("/v1/<department>/<domain>/products/<id:product_id>/pins", tags=_TAGS, responses={200: Kept})
    @require("admin")
    def delete_pins(path: ProductPath) -> Response:
        """Pin and block nothing"""
        journal, product_id = snapshots.journal(snapshots.get(path.partition)), _checked_id(path)
        tell(request.environ, path.partition, product_id=product_id)
        return model_answer(Kept(change=journal.pin(product_id, Pins())))


def _add_products(app: OpenAPI, snapshots: Snapshots, catalog_images: CatalogImages) -> None:
    turns = BoundedSemaphore(PUTS_AT_ONCE)

    @app.put(
        "/v1/<department>/<domain>/products/<product:product_id>",
        tags=_TAGS,
        responses={200: ProductKept},
        openapi_extensions=_PRODUCT,
    )
    @require("admin")
    def put_product(path: ProductPath) -> Response:
        """Put a product in place of what it was, with 1 to 20 images"""
        snapshot, product_id = snapshots.get(path.partition), _checked_id(path)
        tell(request.environ, path.partition, product_id=product_id)
        if not turns.acquire(blocking=False):
            raise Busy(f"{PUTS_AT_ONCE} products are being put already. Send it again in some seconds.")
        try:
            attributes, images = product_of(request, product_id, catalog_images)
            raw = raw_vectors(snapshots.embedder(snapshot), [image.data for image in images])
        finally:
            turns.release()
        if not all(usable(catalog_vectors(snapshot, raw, space)).all() for space in Space):
            raise BadPicture(Kind.BAD_VECTOR, "One of the images has no place in this index. Send another one.")
        change = snapshots.journal(snapshot).put(product_id, attributes, images, snapshot.spec.fingerprint, raw)
        tell(request.environ, path.partition, images=len(images), change=change)
        return model_answer(ProductKept(change=change, images=len(images)))

    @app.delete("/v1/<department>/<domain>/products/<product:product_id>", tags=_TAGS, responses={200: Kept})
    @require("admin")
    def delete_product(path: ProductPath) -> Response:
        """Delete a product"""
        snapshot, product_id = snapshots.get(path.partition), _checked_id(path)
        tell(request.environ, path.partition, product_id=product_id)
        indexed = snapshot.products.find(product_id) is not None
        return model_answer(Kept(change=snapshots.journal(snapshot).delete(product_id, indexed=indexed)))


def _add_changes(app: OpenAPI, snapshots: Snapshots) -> None:
    @app.get("/v1/<department>/<domain>/changes", tags=_TAGS, responses={200: Changes})
    @require("admin")
    def get_changes(path: PartitionPath) -> Response:
        """Products that were put and deleted, as the next index run will take them"""
        snapshot = snapshots.get(path.partition)
        with snapshots.journal(snapshot).reading() as reading:
            merged = merged_up_to(snapshot.manifest, reading.clock().journal)
            changes = [
                Change(
                    product_id=change.product_id,
                    change=change.seq,
                    made=change.made,
                    what="deleted" if change.attributes is None else "put",
                    indexed=change.seq <= merged,
                )
                for change in reading.changes()
            ]
        return model_answer(Changes(snapshot=snapshot.id, changes=changes))

    @app.delete("/v1/<department>/<domain>/changes", tags=_TAGS, responses={200: Dropped})
    @require("admin")
    def drop_changes(path: PartitionPath, query: Drop) -> Response:
        """Forget what was put and deleted: products are as the snapshot, and the next run's catalog, have them"""
        journal = snapshots.journal(snapshots.get(path.partition))
        tell(request.environ, path.partition, products="all" if query.product_id is None else query.product_id)
        dropped = journal.drop(query.product_id)
        tell(request.environ, path.partition, dropped=dropped)
        return model_answer(Dropped(dropped=dropped))


def _unknown(snapshot: SnapshotView, product_ids: Iterable[str]) -> list[str]:
    """The ids among these that no product has."""
    return [name for name in product_ids if snapshot.products.find(name) is None]


def _checked_id(path: ProductPath) -> str:
    """The product's id. Raises `BadQuestion` if it is too long."""
    if len(path.product_id) > LONGEST_ID:
        raise BadQuestion(f"The product id has {len(path.product_id):,} characters; the limit is {LONGEST_ID:,}.")
    return path.product_id
