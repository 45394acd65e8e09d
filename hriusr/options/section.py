"""The parts every section of an option file is made of: its base class and the field types that read numbers well.

YAML 1.1, which PyYAML speaks, takes 2e-4 for a string and 5e3 too; BasicSR's files write !!float 5e3 where an
integer is meant. The types here read all of these by what the field wants.
"""

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


class Section(BaseModel):
    """A mapping of an option file; unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=(), validate_assignment=True)


def as_number(value: Any) -> Any:
    """Turn text such as 2e-4 into a float; leave the rest, and what is no number, to the field's own check."""
    if isinstance(value, bool):
        raise ValueError("a number is wanted here, not true or false")
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def as_integer(value: Any) -> Any:
    """Turn 5e3, "5e3" or 5000.0 into 5000; leave the rest to the field's own check."""
    number = as_number(value)
    if isinstance(number, float) and number.is_integer():
        return int(number)
    return number


Integer = Annotated[int, BeforeValidator(as_integer)]
PositiveInteger = Annotated[int, BeforeValidator(as_integer), Field(gt=0)]
NaturalNumber = Annotated[int, BeforeValidator(as_integer), Field(ge=0)]
Real = Annotated[float, BeforeValidator(as_number), Field(allow_inf_nan=False)]
PositiveReal = Annotated[float, BeforeValidator(as_number), Field(gt=0, allow_inf_nan=False)]
NonNegativeReal = Annotated[float, BeforeValidator(as_number), Field(ge=0, allow_inf_nan=False)]
Fraction = Annotated[float, BeforeValidator(as_number), Field(ge=0, lt=1, allow_inf_nan=False)]
