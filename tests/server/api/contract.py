"""Hooks of `contract.toml`: products, pictures and columns that are there, so that questions have answers."""

import base64
from typing import Any

import schemathesis

from tests.support.pictures import drawn

FILTERS = ["brand:ccm", "price:3..9", "brand:bauer;price:..12", 'brand:"nothing"']
PICTURES = [base64.b64encode(drawn(seed)).decode() for seed in range(4)]


@schemathesis.hook
def map_body(context: Any, body: Any) -> Any:
    """The body, with right values where there were any of the right type."""
    return known(body)


@schemathesis.hook
def map_query(context: Any, query: Any) -> Any:
    """The parameters, with a filter and a crop that mean something."""
    found = dict(query or {})
    if isinstance(found.get("filter"), list) and found["filter"]:
        found["filter"] = [FILTERS[len(str(found["filter"])) % len(FILTERS)]]
    if found.get("crop"):
        found["crop"] = "0.1,0.1,0.5,0.5"
    if context.operation.path.endswith("}/similar") and context.operation.method == "post":
        found.pop("verdict", None)  # which is of one product or one photo
    return found


def known(value: Any) -> Any:
    if isinstance(value, list):
        return [known(part) for part in value]
    if not isinstance(value, dict):
        return value
    found = {name: known(part) for name, part in value.items()}
    for name, values in (("product_id", [f"p{n}" for n in range(18)]), ("image_base64", PICTURES)):
        text = found.get(name)
        if isinstance(text, str) and text:
            found[name] = values[len(text) % len(values)]
    return found
