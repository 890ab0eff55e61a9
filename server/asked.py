"""What may be asked, as it is checked and as `/openapi.json` tells it."""

import csv
import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError

from shared.errors import BadQuestion
from shared.filters import parse
from shared.similar import MOST, Wanted


def _between(low: float, high: float, digits: str, what: str) -> BeforeValidator:
    """Only numbers as people write them: no spaces, underscores or digits of other scripts, which pydantic takes."""

    def check(value: Any) -> Any:
        if isinstance(value, bool) or not re.fullmatch(digits, str(value)) or not low <= float(value) <= high:
            raise PydanticCustomError("number", f"it must be {what} from {low:,} to {high:,}")
        return value

    return BeforeValidator(check)


_FILTER = (
    "Images that count: `brand:ccm,bauer;price:20..80;in_stock:true`. All conditions hold, and of each one value. Case "
    'does not matter; either end of a range may be absent; `"` quotes a value that holds `,` `;` `:` or `..`. Several '
    "filters all hold."
)
_WHOLE, _NUMBER = "-?[0-9]{1,9}", r"-?[0-9]*\.?[0-9]{1,9}"
Count = Annotated[int, _between(1, MOST, _WHOLE, "a whole number"), Field(ge=1, le=MOST)]
Skipped = Annotated[int, _between(0, MOST, _WHOLE, "a whole number"), Field(ge=0, le=MOST)]
Score = Annotated[float, _between(-1, 1, _NUMBER, "a number"), Field(ge=-1, le=1)]
Share = Annotated[float, _between(0, 1, _NUMBER, "a number"), Field(ge=0, le=1)]


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
    offset: Skipped = Field(0, description=f"After how many; with `k` at most {MOST:,}.")
    min_score: Score = Field(-1, description="The least score.")
    verdict: Literal["same", "variant", "similar"] | None = Field(None, description="At least that alike.")
    exclude: list[str] = Field([], description="Products that are no answers: ids, as a line of CSV; several count.")
    filter: list[str] = Field([], description=_FILTER)
    collapse: Literal["variant"] | None = Field(None, description="`variant`: variants of one thing count once.")
    diversity: Share = Field(0, description="What unlikeness among the answers is worth.")

    @property
    def wanted(self) -> Wanted:
        """Raises `BadQuestion`."""
        return Wanted(
            k=self.k,
            collapse=self.collapse == "variant",
            diversity=self.diversity,
            offset=self.offset,
            min_score=self.min_score,
            verdict=self.verdict or "",
            exclude=_ids(self.exclude),
            filter=parse(self.filter),
        )


def _ids(lines: list[str]) -> frozenset[str]:
    try:
        return frozenset(name for line in lines for fields in csv.reader([line], strict=True) for name in fields)
    except csv.Error as error:
        raise BadQuestion(f'exclude is not a line of CSV: {error}. Quote an id that holds a comma: "a,b".') from error


def refuse(error: ValidationError) -> Any:
    """Say what is wrong with a question, naming the parameter. Raises `BadQuestion`, always."""
    wrong = error.errors(include_url=False, include_context=False)[0]
    name = ".".join(map(str, wrong["loc"])) or "The body"
    raise BadQuestion(f"{name} is {wrong['input']!r:.40}; {wrong['msg'][0].lower()}{wrong['msg'][1:]}.") from error
