"""Routes that search: by a product, a photo, or several of both."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from flask import Response, current_app, request
from flask_openapi3 import OpenAPI, Tag
from pydantic import ValidationError

from server.api.photo_body import photo_of
from server.api.queries import Check, Queries
from server.api.requests import (
    AnyProductPath,
    Batch,
    BatchedQuestion,
    Examples,
    PartitionPath,
    PhotoQuestion,
    ProductPath,
    Question,
    refuse,
)
from server.api.responses import (
    Answer,
    AnswerEverywhere,
    Answers,
    answer,
    answer_body,
    answered_body,
    batch_body,
    everywhere_answer,
    in_window,
    with_objects,
)
from server.middleware.fast_path import RULE
from server.middleware.gone import Client
from server.serving.snapshots import Snapshots
from server.telemetry.environ import CLIENT, COST
from shared.errors import ClientGone, QuestionError
from shared.search.all_partitions import queries_everywhere, similar_everywhere
from shared.search.hits import Hit
from shared.search.params import SearchParams
from shared.search.queries import Explanation, Query, explain, product_query
from shared.search.search import similar_to_product, similar_to_query
from shared.snapshot.verdicts import QueryKind
from shared.snapshot.view import SnapshotView

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
                    "properties": {name: {"type": "string", "minLength": 1} for name in ("image_base64", "image_url")},
                    "oneOf": [{"required": ["image_base64"]}, {"required": ["image_url"]}],
                }
            },
        },
    }
}


def add_questions(app: OpenAPI, queries: Queries) -> None:
    """Add the routes."""
    _add_similar(app, queries)
    _add_photo_search(app, queries)
    _add_batch(app, queries)


def _add_similar(app: OpenAPI, queries: Queries) -> None:
    snapshots = queries.snapshots

    @app.get(RULE, tags=_TAGS, responses={200: Answer})
    def similar_products(path: ProductPath, query: Question) -> Response:
        """Products that look most like this product"""
        if not query.explain:
            return answer(*like_product(snapshots, path.partition, path.product_id, query.params))
        snapshot = snapshots.get(path.partition)
        hits = similar_to_product(snapshot, path.product_id, query.params)
        why = explain(snapshot, hits, product_query(snapshot, path.product_id))
        return answer(snapshot, answer_body(snapshot, hits, QueryKind.PRODUCT, why))

    @app.get("/v1/products/<id:product_id>/similar", tags=_TAGS, responses={200: AnswerEverywhere})
    def similar_products_everywhere(path: AnyProductPath, query: Question) -> Response:
        """Products of all partitions that look most like this product"""
        views = dict(snapshots.open)
        asked = queries_everywhere(views, path.product_id)
        found = similar_everywhere(views, path.product_id, asked, query.params)
        explained = (
            (name, hit, explain(views[name], [hit], asked[name])[0] if query.explain else None) for name, hit in found
        )
        return everywhere_answer({name: views[name].id for name in asked}, explained)


def _add_photo_search(app: OpenAPI, queries: Queries) -> None:
    snapshots = queries.snapshots

    @app.post("/v1/<department>/<domain>/search", tags=_TAGS, responses={200: Answer}, openapi_extensions=_PHOTO)
    def search_by_photo(path: PartitionPath, query: PhotoQuestion) -> Response:
        """Products that look most like this photo"""
        snapshot = snapshots.get(path.partition)
        asked = queries.photo(_check(), snapshot, photo_of(request, queries.fetch), query.crop, query.objects or 1)
        found = [_Found.of(snapshot, one, query) for one in asked]
        body = found[0].answer(snapshot)
        return answer(snapshot, with_objects(body, [one.thing() for one in found]) if query.objects else body)

    @app.post("/v1/<department>/<domain>/similar", tags=_TAGS, responses={200: Answer})
    def similar_to_several(path: PartitionPath, query: Question, body: Examples) -> Response:
        """Products that look like some products and photos, and unlike others"""
        snapshot = snapshots.get(path.partition)
        request.environ[COST] = len(body.like) + len(body.unlike)
        mixed = queries.start_mixed(_check(), snapshot, body.like, body.unlike)()
        return answer(snapshot, _Found.of(snapshot, mixed, query).answer(snapshot))


def _add_batch(app: OpenAPI, queries: Queries) -> None:
    @app.post("/v1/<department>/<domain>/batch", tags=_TAGS, responses={200: Answers})
    def batch(path: PartitionPath, body: Batch) -> Response:
        """Answers to several questions, each an answer or a problem, in their order"""
        snapshot = queries.snapshots.get(path.partition)
        request.environ[COST] = sum(map(_cost, body.questions))
        check = _check()
        started = [_start(queries, check, snapshot, question) for question in body.questions]
        return answer(snapshot, batch_body(snapshot, [_answer_or_problem(check, ask) for ask in started]))


def like_product(
    snapshots: Snapshots, partition: str, product_id: str, params: SearchParams
) -> tuple[SnapshotView, bytes]:
    """The answer to product -> products, and the view that gave it."""
    snapshot = snapshots.get(partition)
    return snapshot, answer_body(snapshot, similar_to_product(snapshot, product_id, params), QueryKind.PRODUCT)


@dataclass(frozen=True, slots=True)
class _Found:
    """A query, its hits, and the explanations if they were asked for."""

    query: Query
    hits: list[Hit]
    why: list[Explanation] | None

    @classmethod
    def of(cls, snapshot: SnapshotView, query: Query, question: Question) -> "_Found":
        """Search."""
        hits = similar_to_query(snapshot, query, question.params)
        return cls(query, hits, explain(snapshot, hits, query) if question.explain else None)

    def answer(self, snapshot: SnapshotView) -> bytes:
        """`Answer` as JSON."""
        return in_window(answer_body(snapshot, self.hits, self.query.kind, self.why), self.query.window)

    def thing(self) -> bytes:
        """`Thing`, or `Answered`, as JSON."""
        return answered_body(self.hits, self.why, self.query.window)


def _check() -> Check:
    """The check of this request's client, which raises `ClientGone`."""
    client: Client = request.environ[CLIENT]
    return client.check


def _cost(sent: Any) -> int:
    """As how many requests a question of a batch counts: one, or one for each of its examples."""
    lists = [sent.get(name) for name in ("like", "unlike")] if isinstance(sent, dict) else []
    return max(1, sum(len(examples) for examples in lists if isinstance(examples, list)))


def _start(queries: Queries, check: Check, snapshot: SnapshotView, sent: Any) -> Callable[[], bytes]:
    """Check a question of a batch, and start to embed its photos. Calling the result answers it, or raises its error:
    no question costs the others their answers."""
    try:
        question = BatchedQuestion.model_validate(sent)
        params, query = question.params, queries.start(check, snapshot, question)
    except ValidationError as error:
        return partial(refuse, error)
    except QuestionError as error:
        return partial(_raise, error)

    def ask() -> bytes:
        if question.product_id and not question.explain:
            return answered_body(similar_to_product(snapshot, question.product_id, params))
        return _Found.of(snapshot, query(), question).thing()

    return ask


def _answer_or_problem(check: Check, ask: Callable[[], bytes]) -> bytes:
    """The answer to a query of a batch, or the problem that it would be answered with alone. Raises `ClientGone`."""
    check()
    try:
        return ask()
    except ClientGone:
        raise
    except Exception as error:
        problem = current_app.make_response(current_app.handle_user_exception(error))
        return b'{"problem":%b}' % problem.get_data()


def _raise(error: QuestionError) -> bytes:
    raise error
