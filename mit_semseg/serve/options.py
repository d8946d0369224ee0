"""The parameters of a request."""

from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from .messages import Wanted
from .upload import Refusal

INCLUDED = ("rle", "labels", "confidence", "overlay")


class Options(BaseModel):
    """What `POST /v1/segment` takes in its query, or as fields of a form."""

    model_config = ConfigDict(extra="forbid")

    model: Annotated[str, Field(description="A name from /v1/model. Default: the first one.")] = ""
    output: Annotated[
        Literal["json", "labels", "overlay", "confidence", "scores"],
        Field(
            description="json: shares of the classes. labels: PNG with the gray value k+1 for class k (16 "
            "bits beyond 255 classes). overlay: PNG, the classes over the photo. confidence: PNG with the "
            "probability of each pixel's class, 255 for 1. scores: .npz file with the probabilities of all "
            "classes, float16."
        ),
    ] = "json"
    include: Annotated[
        str,
        Field(
            description="What the JSON has besides, separated by commas: rle (masks in COCO's run-length "
            "encoding); labels, confidence or overlay (the PNG in base64).",
            examples=["rle,labels"],
        ),
    ] = ""
    alpha: Annotated[float, Field(ge=0, le=1, description="Weight of the colours in the overlay.")] = 0.5
    legend: Annotated[bool, Field(description="Add the names of the classes below the overlay.")] = False

    @field_validator("include")
    @classmethod
    def _known(cls, text: str) -> str:
        unknown = [name for name in text.split(",") if name and name not in INCLUDED]
        if unknown:
            raise ValueError(f"{unknown[0]!r} is not one of {', '.join(INCLUDED)}")
        return text

    def wanted(self) -> Wanted:
        """What a worker has to know of it."""
        include = frozenset(name for name in self.include.split(",") if name)
        return Wanted(self.output, include, self.alpha, self.legend)


def parse_options(given: Sequence[tuple[str, str]]) -> Options:
    """The options of a request. Raises: Refusal (422) that names all parameters that cannot be used."""
    if twice := [name for name, count in Counter(name for name, _ in given).items() if count > 1]:
        raise Refusal(422, f"Given more than once: {', '.join(twice)}. Give each parameter once.")
    try:
        return Options.model_validate(dict(given))
    except ValidationError as error:
        raise Refusal(422, describe(error.errors())) from None


def describe(errors: Any) -> str:
    """Pydantic's errors as sentences."""
    unknown = [str(error["loc"][-1]) for error in errors if error["type"] == "extra_forbidden"]
    sentences = []
    if unknown:
        names = ", ".join(Options.model_fields)
        sentences.append(f"Unknown parameter: {', '.join(unknown)}. The parameters are {names}.")
    for error in errors:
        if error["type"] != "extra_forbidden":
            problem = error["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
            verb = "" if error["type"] == "value_error" else "should be "
            sentences.append(f"{error['loc'][-1]} is {str(error['input'])[:80]!r}: {verb}{problem}.")
    return " ".join(sentences)
