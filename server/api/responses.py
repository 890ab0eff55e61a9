"""What is answered: bodies, and the models by which `/openapi.json` tells of them."""

import json
from collections.abc import Iterable, Mapping
from functools import lru_cache
from http import HTTPStatus
from typing import Any

from flask import Response
from pydantic import BaseModel, Field

from shared.search.hits import Hit
from shared.search.queries import Explanation
from shared.snapshot.verdicts import QueryKind, Verdict
from shared.snapshot.view import SnapshotView

_VERDICTS = {verdict: json.dumps(verdict).encode() for verdict in (None, *Verdict)}


class Match(BaseModel):
    """How well a part of the question matches an image: a view of a photo, an image of a product, one of several
    examples."""

    view: str
    score: float


class Why(BaseModel):
    """Why a product is an answer: its image that matched, the part of the question that matches that best, and all of
    them. The answer's own score is that of all parts together."""

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


class Answer(BaseModel):
    """The products that look most like what was asked, all from one snapshot."""

    snapshot: str
    false_alarms: dict[str, float] | None = Field(description="How often each verdict is given wrongly, 0 to 1.")
    results: list[Result]


class Image(BaseModel):
    """One image of a product."""

    image_id: str
    image_url: str
    attributes: dict[str, str]


class ListedProduct(Image):
    """A product, by its first image."""

    product_id: str


class Products(BaseModel):
    """Some of the products that were found. `total`: how many were."""

    snapshot: str
    total: int
    products: list[ListedProduct]


class Product(BaseModel):
    """A product and its images."""

    snapshot: str
    product_id: str
    images: list[Image]


class Value(BaseModel):
    """A value of a column, and how many products have it."""

    value: str
    count: int


class Column(BaseModel):
    """A column of the catalog."""

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
    """The products of all partitions that look most like the one that was asked, and from which snapshots they are."""

    snapshots: dict[str, str]
    results: list[FoundSomewhere]


class Answered(BaseModel):
    """The answer to one question of several."""

    results: list[Result]


class Refused(BaseModel):
    """What is wrong with one question of several."""

    problem: Problem


class Answers(BaseModel):
    """Answers to several questions, in their order, all from one snapshot."""

    snapshot: str
    answers: list[Answered | Refused]


_PROBLEM = {"application/problem+json": {"schema": Problem.model_json_schema()}}
PROBLEMS: dict[str | int | HTTPStatus, Any] = {
    "4XX": {"description": "What is wrong with the question", "content": _PROBLEM},
    "5XX": {"description": "What is wrong here", "content": _PROBLEM},
}


def answer(snapshot: SnapshotView, body: bytes) -> Response:
    """An answer of this snapshot."""
    return Response(body, mimetype="application/json", headers={"ETag": f'"{snapshot.tag}"'})


def answer_body(
    snapshot: SnapshotView, neighbours: list[Hit], kind: QueryKind, why: Iterable[Explanation] | None = None
) -> bytes:
    """`Answer`, as JSON, to a `question` after a product or a photo."""
    verdicts = snapshot.verdicts.get(kind)
    head = _head(snapshot.id, tuple(verdicts.false_alarms.items()) if verdicts else None)
    return b"%b%b]}" % (head, b",".join(results(neighbours, why)))


def results(neighbours: list[Hit], why: Iterable[Explanation] | None = None) -> list[bytes]:
    """`Result` of each, as JSON."""
    # The table's lines are JSON objects already: rank, score and verdict go in at the front of each.
    plain = [
        b'{"rank":%d,"score":%r,"verdict":%b,%b' % (n.rank, n.score, _VERDICTS[n.verdict], n.line[1:])
        for n in neighbours
    ]
    return (
        plain if why is None else [with_field(one, "explain", _why(own)) for one, own in zip(plain, why, strict=True)]
    )


def results_body(neighbours: list[Hit], why: Iterable[Explanation] | None = None) -> bytes:
    """`Answered`, as JSON."""
    return b'{"results":[%b]}' % b",".join(results(neighbours, why))


def batch_body(snapshot: SnapshotView, answers: list[bytes]) -> bytes:
    """`Answers`, as JSON."""
    return b'{"snapshot":"%b","answers":[%b]}' % (snapshot.id.encode(), b",".join(answers))


def everywhere_answer(snapshots: Mapping[str, str], rows: list[bytes]) -> Response:
    """`AnswerEverywhere`."""
    body = b'{"snapshots":%b,"results":[%b]}' % (json.dumps(snapshots).encode(), b",".join(rows))
    return Response(body, mimetype="application/json")


def with_field(body: bytes, name: str, value: Any) -> bytes:
    """A JSON object with one more field."""
    return b'%b,"%b":%b}' % (body[:-1], name.encode(), json.dumps(value).encode())


def _why(explanation: Explanation) -> dict[str, Any]:
    view, score = explanation.best
    views = [{"view": view, "score": score} for view, score in explanation.parts]
    return {"image_id": explanation.image_id, "view": view, "score": score, "views": views}


@lru_cache(64)
def _head(snapshot_id: str, false_alarms: tuple[tuple[str, float], ...] | None) -> bytes:
    alarms = json.dumps(None if false_alarms is None else dict(false_alarms)).encode()
    return b'{"snapshot":"%b","false_alarms":%b,"results":[' % (snapshot_id.encode(), alarms)


def json_answer(body: Mapping[str, Any], status: int = 200, mimetype: str = "application/json") -> Response:
    """Any object as JSON."""
    return Response(json.dumps(body, allow_nan=False, separators=(",", ":")), status, mimetype=mimetype)
