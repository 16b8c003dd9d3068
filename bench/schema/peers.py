"""CPU time of one validation by Python's jsonschema and by Pydantic, as JSON lines for awooop-bench.

The document and the schema are the two files beside this one; the Pydantic model is the same shape, extra
properties forbidden. Every case first has to accept the document and refuse a broken one. Argument: seconds
of CPU for each case. Exit code 1 when a case judges wrongly or a package is missing.
"""

import json
import sys
import time
from pathlib import Path
from typing import Annotated, Literal, Union

import jsonschema
import pydantic
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

HERE = Path(__file__).parent
ANSWER = (HERE / "answer.json").read_text()
SCHEMA = json.loads((HERE / "schema.json").read_text())


def text(**limits):
    return Annotated[str, StringConstraints(strict=True, **limits)]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


Day = text(pattern=r"^\d{4}-\d{2}-\d{2}$")


class Period(Strict):
    from_: Day = Field(alias="from")
    to: Day
    days: Annotated[int, Field(ge=1)]


class Address(Strict):
    street: str
    city: str
    postcode: text(max_length=10)
    country: text(pattern=r"^[A-Z]{2}$")


class Customer(Strict):
    id: text(pattern=r"^cust-[0-9]{5}$")
    name: str
    email: text(max_length=254)
    is_business: bool
    phone: str | None
    address: Address


class Totals(Strict):
    net: float
    tax: Annotated[float, Field(ge=0)]
    shipping: Annotated[float, Field(ge=0)]
    gross: float
    currency: Literal["TWD", "USD", "EUR"]


class Item(Strict):
    sku: text(pattern=r"^TW-[0-9]{4}$")
    title: text(min_length=1, max_length=120)
    quantity: Annotated[int, Field(ge=1)]
    price: Annotated[float, Field(ge=0)]
    status: Literal["packed", "shipped", "returned"]
    tags: Annotated[list[str], Field(max_length=8)]


class Nothing(Strict):
    kind: Literal["none"]


class Ask(Strict):
    kind: Literal["ask"]
    question: text(min_length=1)


class Act(Strict):
    kind: Literal["act"]
    tool: str


class Answer(Strict):
    summary: text(min_length=1, max_length=2000)
    language: Literal["en", "zh-TW"]
    generated_at: text(pattern=r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z$")
    confidence: Annotated[float, Field(ge=0, le=1)]
    period: Period
    customer: Customer
    totals: Totals
    items: Annotated[list[Item], Field(max_length=500)]
    sources: list[text(min_length=1)]
    next_step: Annotated[Union[Nothing, Ask, Act], Field(discriminator="kind")]
    warnings: list[str]


KEPT = jsonschema.Draft202012Validator(SCHEMA)

# name, what is measured, takes the document's text, takes the parsed document instead
CASES = [
    ("jsonschema", "compile", lambda given: jsonschema.validate(json.loads(given), SCHEMA), False),
    ("jsonschema", "kept", lambda given: KEPT.validate(json.loads(given)), False),
    ("jsonschema", "validate", KEPT.validate, True),
    ("pydantic", "kept", Answer.model_validate_json, False),
    ("pydantic", "validate", Answer.model_validate, True),
]


def check(case, given, broken):
    case(given)
    try:
        case(broken)
    except (jsonschema.ValidationError, pydantic.ValidationError):
        return
    sys.exit("a case accepted the broken document")


def microseconds(case, given, seconds):
    for _ in range(50):
        case(given)
    count, started = 0, time.process_time()
    while (spent := time.process_time() - started) < seconds:
        for _ in range(20):
            case(given)
        count += 20
    return spent / count * 1e6


def main():
    seconds = float(sys.argv[1])
    broken = json.loads(ANSWER)
    broken["items"][19]["quantity"] = 0
    for name, what, case, is_parsed in CASES:
        given = json.loads(ANSWER) if is_parsed else ANSWER
        check(case, given, broken if is_parsed else json.dumps(broken))
        version = {"jsonschema": jsonschema, "pydantic": pydantic}[name].__version__
        us = microseconds(case, given, seconds)
        print(json.dumps({"name": name, "version": version, "what": what, "us": us}), flush=True)


if __name__ == "__main__":
    main()
