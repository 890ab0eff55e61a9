"""Read the product of a request that puts one: its images and attributes, from a form or JSON."""

import json
from typing import Annotated, Any

from flask import Request
from gunicorn.http.errors import ParseException
from pydantic import BaseModel, Field, ValidationError, field_validator

from server.api.photo_body import from_base64
from server.api.requests import refuse
from server.fetching.catalog_images import CatalogImages
from shared.errors import BadQuestion
from shared.live.reading import LiveImage

MOST_IMAGES = 20
LONGEST_ID = 1000
Id = Annotated[str, Field(min_length=1, max_length=LONGEST_ID)]


class PutImage(BaseModel):
    """An image: its bytes in base64, or only its id, if it lies at `IMAGE_URL`."""

    image_id: Id
    image_base64: str | None = None


class PutProduct(BaseModel):
    """A product to add or replace. Attributes are texts; numbers are taken as they are written."""

    images: list[PutImage] = Field(min_length=1, max_length=MOST_IMAGES)
    attributes: dict[Annotated[str, Field(max_length=200)], Annotated[str, Field(max_length=10_000)]] = Field(
        {}, max_length=200
    )

    @field_validator("attributes", mode="before")
    @classmethod
    def _texts(cls, attributes: Any) -> Any:
        if not isinstance(attributes, dict):
            return attributes
        return {
            key: json.dumps(value) if isinstance(value, int | float) else value for key, value in attributes.items()
        }

    @field_validator("images")
    @classmethod
    def _distinct(cls, images: list[PutImage]) -> list[PutImage]:
        if len({image.image_id for image in images}) < len(images):
            raise ValueError("each image must have an id of its own")
        return images


def product_of(
    request: Request, product_id: str, catalog_images: CatalogImages
) -> tuple[dict[str, str], list[LiveImage]]:
    """The attributes and images of the product. Raises `BadQuestion`, `BadPicture`."""
    try:
        form = request.mimetype == "multipart/form-data"
        fields, sent = _form(request) if form else (request.get_json(silent=True), {})
        product = PutProduct.model_validate(fields)
    except ValidationError as error:
        raise refuse(error) from error
    except (OSError, RecursionError, ParseException) as error:
        raise BadQuestion(f"The body cannot be read: {type(error).__name__}. Send it again.") from error
    images = []
    for image in product.images:
        url, data = "", sent.get(image.image_id, b"")
        if image.image_base64 is not None:
            data = from_base64(image.image_base64)
        elif not form:
            url, data = catalog_images.fetch(product_id, image.image_id, product.attributes)
        images.append(LiveImage(image.image_id, url, data))
    return product.attributes, images


def _form(request: Request) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The fields of a form as if they were JSON, and the files by image id: their names, or else their places."""
    files = request.files.getlist("image")
    names = [file.filename or str(place) for place, file in enumerate(files, 1)]
    try:
        attributes = json.loads(request.form.get("attributes", "{}"))
    except ValueError as error:
        raise BadQuestion(f"The field 'attributes' is not JSON: {error}.") from error
    fields = {"images": [{"image_id": name} for name in names], "attributes": attributes}
    return fields, {name: file.read() for name, file in zip(names, files, strict=True)}
