"""The two questions over HTTP."""

from threading import BoundedSemaphore
from typing import Any

from flask import Response, request
from flask_openapi3 import OpenAPI, Tag

from server.answers import Answer, answer, answer_body
from server.asked import PartitionPath, ProductPath, Question
from server.photo import photo_of
from server.quick import RULE
from server.reload import Snapshots
from shared.errors import Busy
from shared.similar import Wanted, similar_to_photo, similar_to_product
from shared.snapshot import Snapshot

# Fewer than a worker has threads: the others answer what needs no network.
PHOTOS_AT_ONCE = 20
_TAGS = [Tag(name="questions", description="Which products look most like this?")]
_PHOTO: Any = {
    "requestBody": {
        "required": True,
        "content": {
            "image/*": {"schema": {"type": "string", "format": "binary"}},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["image"],
                    "properties": {"image": {"type": "string", "format": "binary"}},
                }
            },
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["image_base64"],
                    "properties": {"image_base64": {"type": "string", "minLength": 1}},
                }
            },
        },
    }
}


def add_questions(app: OpenAPI, snapshots: Snapshots) -> None:
    """Add the routes."""
    turns = BoundedSemaphore(PHOTOS_AT_ONCE)

    @app.get(RULE, tags=_TAGS, responses={200: Answer})
    def similar_products(path: ProductPath, query: Question) -> Response:
        """Products that look most like this product"""
        return answer(*like_product(snapshots, path.partition, path.product_id, query.wanted))

    @app.post("/v1/<department>/<domain>/search", tags=_TAGS, responses={200: Answer}, openapi_extensions=_PHOTO)
    def search_by_photo(path: PartitionPath, query: Question) -> Response:
        """Products that look most like this photo"""
        snapshot = snapshots.get(path.partition)
        photo = photo_of(request)
        if not turns.acquire(blocking=False):
            raise Busy(f"{PHOTOS_AT_ONCE} photos are being searched already. Send it again in some seconds.")
        try:
            neighbours = similar_to_photo(snapshot, snapshots.embedder(snapshot), photo, query.wanted)
        finally:
            turns.release()
        return answer(snapshot, answer_body(snapshot, neighbours, "photo"))


def like_product(snapshots: Snapshots, partition: str, product_id: str, wanted: Wanted) -> tuple[Snapshot, bytes]:
    """The answer to product -> products, and the snapshot that gave it."""
    snapshot = snapshots.get(partition)
    return snapshot, answer_body(snapshot, similar_to_product(snapshot, product_id, wanted), "product")
