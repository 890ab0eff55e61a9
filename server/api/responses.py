"""Response bodies: the models that `/openapi.json` is made of, and the responses made of them.

Answers with hits are spliced of the bytes that the product table holds; all others are dumps of their model.
"""

import json
from collections.abc import Iterable, Mapping
from functools import lru_cache
from http import HTTPStatus
from typing import Any

from flask import Response
from pydantic import BaseModel, ConfigDict, Field

from shared.images.crop import Crop
from shared.index.product_table import fields_of, with_last
from shared.search.hits import Hit
from shared.search.queries import Explanation
from shared.snapshot.verdicts import QueryKind, Verdict
from shared.snapshot.view import SnapshotView

_FROM_ATTRIBUTES = ConfigDict(from_attributes=True)
_WINDOW = "The part of the photo in which the thing was found, as `crop` takes it; absent: the whole."
_VERDICTS = {verdict: json.dumps(verdict).encode() for verdict in (None, *Verdict)}


class Match(BaseModel):
    """A part of the query and its score against an image: a view of a photo, an image of a product, one of several
    examples."""

    view: str
    score: float


class Why(BaseModel):
    """The explanation of an answer: its image that matched, the part of the query that matches it best, and all parts.
    The answer's own score is that of all parts together."""

    image_id: str
    view: str
    score: float
    views: list[Match]


class Result(BaseModel):
    """One product, by the image of it that matched best."""

    rank: int
    score: float = Field(description="Cosine similarity, -1 to 1.")
    verdict: Verdict | None
    product_id: str
    image_id: str
    image_url: str
    attributes: dict[str, str]
    explain: Why | None = Field(None, description="Where `explain` is true.")


class Thing(BaseModel):
    """A thing in a photo, and the products that look most like it."""

    crop: list[float] | None = Field(None, description=_WINDOW)
    results: list[Result]


class Answer(BaseModel):
    """The products that look most like the query, all from one snapshot."""

    snapshot: str
    false_alarms: dict[str, float] | None = Field(description="How often each verdict is given wrongly, 0 to 1.")
    results: list[Result]
    crop: list[float] | None = Field(None, description=_WINDOW)
    objects: list[Thing] | None = Field(None, description="Where `objects` is given: each thing, the surest first.")


class Image(BaseModel):
    """One image of a product."""

    model_config = _FROM_ATTRIBUTES

    image_id: str
    image_url: str
    attributes: dict[str, str]


class ListedProduct(BaseModel):
    """A product, by its first image."""

    model_config = _FROM_ATTRIBUTES

    product_id: str
    image_id: str
    image_url: str
    attributes: dict[str, str]


class Products(BaseModel):
    """A page of the products that were found. `total`: how many were."""

    snapshot: str
    total: int
    products: list[ListedProduct]


class Product(BaseModel):
    """A product and its images."""

    snapshot: str
    product_id: str
    images: list[Image]


class Value(BaseModel):
    """A value of a column, and its number of products."""

    model_config = _FROM_ATTRIBUTES

    value: str
    count: int


class Column(BaseModel):
    """A column of the catalog."""

    model_config = _FROM_ATTRIBUTES

    name: str
    values: list[Value] = Field(description="The most frequent ones.")
    distinct: int = Field(description="How many values there are.")
    low: float | None = Field(None, description="Where all values are numbers.")
    high: float | None = None


class Columns(BaseModel):
    """The columns of the catalog."""

    snapshot: str
    attributes: list[Column]


class Problem(BaseModel):
    """An RFC 9457 problem."""

    type: str
    title: str
    status: int
    detail: str
    request_id: str
    kind: str | None = Field(None, description="Why a photo was refused.")


class FoundSomewhere(Result):
    """A product, and the partition that it is in."""

    partition: str


class AnswerEverywhere(BaseModel):
    """The products of all partitions that look most like the query product, and the snapshots that they are from."""

    snapshots: dict[str, str]
    results: list[FoundSomewhere]


class Answered(Thing):
    """The answer to one query of a batch."""


class Refused(BaseModel):
    """The problem of one query of a batch."""

    problem: Problem


class Answers(BaseModel):
    """Answers to the queries of a batch, in their order, all from one snapshot."""

    snapshot: str
    answers: list[Answered | Refused]


_PROBLEM = {"application/problem+json": {"schema": Problem.model_json_schema()}}
PROBLEMS: dict[str | int | HTTPStatus, Any] = {
    "4XX": {"description": "What is wrong with the question", "content": _PROBLEM},
    "5XX": {"description": "What is wrong here", "content": _PROBLEM},
}


def model_answer(model: BaseModel, status: int = 200) -> Response:
    """A model as JSON."""
    return Response(model.model_dump_json(), status, mimetype="application/json")


def answer(snapshot: SnapshotView, body: bytes | str) -> Response:
    """A body of JSON that was made from this snapshot, which its `ETag` names."""
    return Response(body, mimetype="application/json", headers={"ETag": f'"{snapshot.tag}"'})


def answer_body(
    snapshot: SnapshotView, hits: list[Hit], kind: QueryKind, explanations: Iterable[Explanation] | None = None
) -> bytes:
    """`Answer` as JSON, to a query of that kind."""
    verdicts = snapshot.verdicts.get(kind)
    head = _head(snapshot.id, tuple(verdicts.false_alarms.items()) if verdicts else None)
    return b"%b%b]}" % (head, b",".join(_results(hits, explanations)))


def answered_body(
    hits: list[Hit], explanations: Iterable[Explanation] | None = None, window: Crop | None = None
) -> bytes:
    """`Answered`, or `Thing`, as JSON."""
    return in_window(b'{"results":[%b]}' % b",".join(_results(hits, explanations)), window)


def in_window(body: bytes, window: Crop | None) -> bytes:
    """An answer with the window that it is of."""
    return with_last(body, b'"crop":[%b]' % str(window).encode()) if window else body


def with_objects(body: bytes, things: list[bytes]) -> bytes:
    """An answer with those of each thing in the photo."""
    return with_last(body, b'"objects":[%b]' % b",".join(things))


def batch_body(snapshot: SnapshotView, answers: list[bytes]) -> bytes:
    """`Answers` as JSON."""
    return b'{"snapshot":"%b","answers":[%b]}' % (snapshot.id.encode(), b",".join(answers))


def everywhere_answer(snapshots: Mapping[str, str], found: Iterable[tuple[str, Hit, Explanation | None]]) -> Response:
    """`AnswerEverywhere`: the snapshot asked in each partition, and hits with their partition."""
    rows = []
    for partition, hit, explanation in found:
        (result,) = _results([hit], [explanation] if explanation else None)
        rows.append(with_last(result, b'"partition":%b' % json.dumps(partition).encode()))
    body = b'{"snapshots":%b,"results":[%b]}' % (json.dumps(snapshots).encode(), b",".join(rows))
    return Response(body, mimetype="application/json")


def _results(hits: list[Hit], explanations: Iterable[Explanation] | None) -> list[bytes]:
    """`Result` of each hit as JSON."""
    plain = [
        b'{"rank":%d,"score":%r,"verdict":%b,%b' % (hit.rank, hit.score, _VERDICTS[hit.verdict], fields_of(hit.line))
        for hit in hits
    ]
    if explanations is None:
        return plain
    return [
        with_last(result, b'"explain":%b' % _why(explanation).model_dump_json().encode())
        for result, explanation in zip(plain, explanations, strict=True)
    ]


def _why(explanation: Explanation) -> Why:
    view, score = explanation.best
    views = [Match(view=view, score=score) for view, score in explanation.parts]
    return Why(image_id=explanation.image_id, view=view, score=score, views=views)


@lru_cache(64)
def _head(snapshot_id: str, false_alarms: tuple[tuple[str, float], ...] | None) -> bytes:
    alarms = json.dumps(None if false_alarms is None else dict(false_alarms)).encode()
    return b'{"snapshot":"%b","false_alarms":%b,"results":[' % (snapshot_id.encode(), alarms)
