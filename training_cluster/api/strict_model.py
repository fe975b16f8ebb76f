"""What every body of a request has in common: only what is documented is taken."""

from __future__ import annotations

from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator


class Strict(BaseModel):
    """Unknown fields, NaN, infinities, and true or false for a number are refused."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_boolean_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, bool):
            wanted = cls.model_fields[info.field_name or ""].annotation
            if wanted is not bool and bool not in get_args(wanted):
                raise ValueError("a number or text, not true or false")
        return value
