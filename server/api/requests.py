"""Request models: how requests are checked, and what `/openapi.json` says of them."""

import csv
import re
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SkipValidation, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from shared.errors import BadQuestion
from shared.images.decode import MAX_EDGE
from shared.index.filters import parse
from shared.search.params import MOST, SearchParams
from shared.search.photo_query import MOST_THINGS
from shared.search.queries import MOST as MOST_EXAMPLES
from shared.snapshot.verdicts import Verdict


def _between(low: float, high: float, digits: str, what: str) -> BeforeValidator:
    """A number as people write it: without spaces, underscores or digits of other scripts, which pydantic takes."""

    def check(value: Any) -> Any:
        number = value
        if isinstance(value, str):
            number = float(value) if re.fullmatch(digits, value) else None
        if not isinstance(number, int | float) or isinstance(number, bool) or not low <= number <= high:
            raise PydanticCustomError("number", f"it must be {what} from {low:,} to {high:,}")
        return value

    return BeforeValidator(check)


def _truth(value: Any) -> bool:
    if not isinstance(value, bool) and value not in ("true", "false"):
        raise PydanticCustomError("truth", "it must be true or false")
    return value in ("true", True)


_FILTER = (
    "Images that count: `brand:ccm,bauer;price:20..80;in_stock:true`. All conditions hold, and of each one value. Case "
    'does not matter; either end of a range may be absent; `"` quotes a value that holds `,` `;` `:` or `..`. Several '
    "filters all hold."
)
_CROP = "`x,y,w,h`: a part of the upright photo; fractions of it where all are at most 1, else pixels."
MOST_QUESTIONS = 100
_WHOLE, _NUMBER = "-?[0-9]{1,9}", r"-?[0-9]*\.?[0-9]{1,20}(?:e-?[0-9]{1,3})?"
Count = Annotated[int, Field(ge=1, le=MOST), _between(1, MOST, _WHOLE, "a whole number")]
Skipped = Annotated[int, Field(ge=0, le=MOST), _between(0, MOST, _WHOLE, "a whole number")]
Score = Annotated[float, Field(ge=-1, le=1), _between(-1, 1, _NUMBER, "a number")]
Weight = Annotated[float, Field(ge=0.01, le=100), _between(0.01, 100, _NUMBER, "a number")]
ProductId = Annotated[str, Field(json_schema_extra={"example": "8300037"})]
Truth = Annotated[bool, BeforeValidator(_truth)]
Share = Annotated[float, Field(ge=0, le=1), _between(0, 1, _NUMBER, "a number")]

Things = Annotated[int, _between(1, MOST_THINGS, _WHOLE, "a whole number"), Field(ge=1, le=MOST_THINGS)]
PageSize = Annotated[int, _between(1, 200, _WHOLE, "a whole number"), Field(ge=1, le=200)]
Start = Annotated[int, _between(0, 999_999_999, _WHOLE, "a whole number"), Field(ge=0)]
Edge = Annotated[int, _between(16, MAX_EDGE, _WHOLE, "a whole number"), Field(ge=16, le=MAX_EDGE)]


class AnyProductPath(BaseModel):
    """A product, in all partitions that list it. Its id may hold any character, slashes too."""

    product_id: ProductId


class PartitionPath(BaseModel):
    """A department and a domain."""

    department: str = Field(json_schema_extra={"example": "371"})
    domain: str = Field(json_schema_extra={"example": "0341"})

    @property
    def partition(self) -> str:
        return f"{self.department}/{self.domain}"


class ProductPath(PartitionPath):
    """A product of a partition. Its id may hold any character, slashes too."""

    product_id: ProductId


class Question(BaseModel):
    """The search parameters."""

    model_config = ConfigDict(extra="ignore")

    k: Count = Field(10, description="How many products.")
    offset: Skipped = Field(0, description=f"After how many; with `k` at most {MOST:,}.")
    min_score: Score = Field(-1, description="The least score.")
    verdict: Literal["same", "variant", "similar"] | None = Field(None, description="At least that alike.")
    exclude: list[str] = Field([], description="Products that are no answers: ids, as a line of CSV; several count.")
    filter: list[str] = Field([], description=_FILTER)
    collapse: Literal["variant"] | None = Field(None, description="`variant`: variants of one thing count once.")
    diversity: Share = Field(0, description="What unlikeness among the answers is worth.")

    explain: Truth = Field(False, description="Say of each answer which image matched, and which part of the question.")

    @property
    def params(self) -> SearchParams:
        """Make the search parameters. Raises `BadQuestion`."""
        return SearchParams(
            k=self.k,
            collapse=self.collapse == "variant",
            diversity=self.diversity,
            offset=self.offset,
            min_score=self.min_score,
            verdict=Verdict(self.verdict) if self.verdict else None,
            exclude=self.excluded,
            filter=parse(self.filter),
        )

    @property
    def excluded(self) -> frozenset[str]:
        """The product ids to leave out. Raises `BadQuestion`."""
        return _ids(self.exclude)


class PhotoQuestion(Question):
    """The search parameters of a photo."""

    crop: str | None = Field(None, description=_CROP)
    objects: Things | None = Field(None, description="How many things of the photo to search for, each by itself.")


def _strict(*kinds: str) -> ConfigDict:
    """The schema of a body that has one of these fields, and no unknown one."""
    return ConfigDict(extra="forbid", json_schema_extra={"oneOf": [{"required": [kind]} for kind in kinds]})


def _shown(example: dict[str, Any]) -> ConfigDict:
    """The schema of a body such as this example, with no unknown field."""
    return ConfigDict(extra="forbid", json_schema_extra={"examples": [example]})


class ProductOrPhoto(BaseModel):
    """A product or a photo, one of them."""

    kinds: ClassVar[tuple[str, ...]] = ("product_id", "image_base64", "image_url")
    model_config = _strict(*kinds)

    product_id: str = Field("", min_length=1)
    image_base64: str = Field("", min_length=1)
    image_url: str = Field("", min_length=1, description="Where the server may fetch photos (`PHOTO_HOSTS`).")
    crop: str | None = Field(None, description=_CROP)

    @model_validator(mode="after")
    def _one(self) -> Self:
        given = [name for name in self.kinds if getattr(self, name)]
        if len(given) != 1:
            raise PydanticCustomError("one", f"it must have one of {', '.join(self.kinds)}")
        if self.crop is not None and not given[0].startswith("image_"):
            raise PydanticCustomError("crop", "crop is of a photo")
        return self


class Example(ProductOrPhoto):
    """A product or a photo, and its weight."""

    weight: Weight = 1.0


class Examples(BaseModel):
    """Positive examples (`like`) and negative ones (`unlike`)."""

    model_config = _shown({"like": [{"product_id": "8300037", "weight": 2}], "unlike": [{"product_id": "8300074"}]})

    like: list[Example] = Field(min_length=1, max_length=MOST_EXAMPLES)
    unlike: list[Example] = Field([], max_length=MOST_EXAMPLES - 1)


class BatchedQuestion(ProductOrPhoto, Question):
    """A query of a batch: a product, a photo, or several of them, with search parameters."""

    kinds = (*ProductOrPhoto.kinds, "like")
    model_config = _strict(*kinds)

    exclude: str | list[str] = Field([], description="Product ids that are no answers.")  # type: ignore[assignment]
    filter: str | list[str] = Field([], description=_FILTER)  # type: ignore[assignment]
    like: list[Example] = Field([], min_length=1, max_length=MOST_EXAMPLES)
    unlike: list[Example] = Field([], max_length=MOST_EXAMPLES - 1)

    @property
    def excluded(self) -> frozenset[str]:
        return _ids([self.exclude]) if isinstance(self.exclude, str) else frozenset(self.exclude)


class Batch(BaseModel):
    """Queries that are answered together. Each is checked by itself, so that a wrong one costs only itself."""

    model_config = _shown({"questions": [{"product_id": "8300037", "k": 3}, {"like": [{"product_id": "8300074"}]}]})

    questions: list[SkipValidation[BatchedQuestion]] = Field(min_length=1, max_length=MOST_QUESTIONS)


def _ids(lines: list[str]) -> frozenset[str]:
    try:
        return frozenset(name for line in lines for fields in csv.reader([line], strict=True) for name in fields)
    except csv.Error as error:
        raise BadQuestion(f'exclude is not a line of CSV: {error}. Quote an id that holds a comma: "a,b".') from error


class Browsing(BaseModel):
    """The products to list."""

    model_config = ConfigDict(extra="ignore")

    text: str = Field("", max_length=200, description="The beginning of a product id, or of words in its attributes.")
    limit: PageSize = Field(50, description="How many products.")
    offset: Start = Field(0, description="How many to leave out before.")


class Thumbnail(BaseModel):
    """The picture of a product, and its size."""

    model_config = ConfigDict(extra="ignore")

    image_id: str | None = Field(None, description="One of the product's images; the first where it is not given.")
    size: Edge = Field(320, description="The longer edge in pixels, where the server makes the picture.")


def refuse(error: ValidationError) -> Any:
    """Say which parameter of a request is wrong, and why. Raises `BadQuestion`, always."""
    wrong = error.errors(include_url=False, include_context=False)[0]
    name = ".".join(map(str, wrong["loc"])) or "The body"
    raise BadQuestion(f"{name} is {wrong['input']!r:.40}; {wrong['msg'][0].lower()}{wrong['msg'][1:]}.") from error
