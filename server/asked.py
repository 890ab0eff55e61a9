"""What may be asked, as it is checked and as `/openapi.json` tells it."""

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError

from shared.errors import BadQuestion
from shared.images import MAX_EDGE
from shared.similar import MOST, Wanted


def _between(low: float, high: float, digits: str, what: str) -> BeforeValidator:
    """Only numbers as people write them: no spaces, underscores or digits of other scripts, which pydantic takes."""

    def check(value: Any) -> Any:
        if isinstance(value, bool) or not re.fullmatch(digits, str(value)) or not low <= float(value) <= high:
            raise PydanticCustomError("number", f"it must be {what} from {low:,} to {high:,}")
        return value

    return BeforeValidator(check)


_WHOLE, _NUMBER = "-?[0-9]{1,9}", r"-?[0-9]*\.?[0-9]{1,9}"
Count = Annotated[int, _between(1, MOST, _WHOLE, "a whole number"), Field(ge=1, le=MOST)]
Share = Annotated[float, _between(0, 1, _NUMBER, "a number"), Field(ge=0, le=1)]

PageSize = Annotated[int, _between(1, 200, _WHOLE, "a whole number"), Field(ge=1, le=200)]
Skipped = Annotated[int, _between(0, 999_999_999, _WHOLE, "a whole number"), Field(ge=0)]
Edge = Annotated[int, _between(16, MAX_EDGE, _WHOLE, "a whole number"), Field(ge=16, le=MAX_EDGE)]


class PartitionPath(BaseModel):
    """A department and a domain."""

    department: str
    domain: str

    @property
    def partition(self) -> str:
        return f"{self.department}/{self.domain}"


class ProductPath(PartitionPath):
    """A product of a partition. Its id may hold any character, slashes too."""

    product_id: str


class Question(BaseModel):
    """What is wanted of the answers."""

    model_config = ConfigDict(extra="ignore")

    k: Count = Field(10, description="How many products.")
    collapse: Literal["variant"] | None = Field(None, description="`variant`: variants of one thing count once.")
    diversity: Share = Field(0, description="What unlikeness among the answers is worth.")

    @property
    def wanted(self) -> Wanted:
        return Wanted(self.k, self.collapse == "variant", self.diversity)


class Browsing(BaseModel):
    """Which products to list."""

    model_config = ConfigDict(extra="ignore")

    text: str = Field("", max_length=200, description="The beginning of a product id, or of words in its attributes.")
    limit: PageSize = Field(50, description="How many products.")
    offset: Skipped = Field(0, description="How many to leave out before.")


class Thumbnail(BaseModel):
    """Which picture of a product, and how large."""

    model_config = ConfigDict(extra="ignore")

    image_id: str | None = Field(None, description="One of the product's images; the first where it is not given.")
    size: Edge = Field(320, description="The longer edge in pixels, where the server makes the picture.")


def refuse(error: ValidationError) -> Any:
    """Say what is wrong with a question, naming the parameter. Raises `BadQuestion`, always."""
    wrong = error.errors(include_url=False, include_context=False)[0]
    name = ".".join(map(str, wrong["loc"])) or "The body"
    raise BadQuestion(f"{name} is {wrong['input']!r:.40}; {wrong['msg'][0].lower()}{wrong['msg'][1:]}.") from error
