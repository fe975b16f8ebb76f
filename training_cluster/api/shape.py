"""What the shapes of answers have in common: they are built when somebody asks for the document.

Answers are made of plain values; their models are there for OpenAPI alone.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Shape(BaseModel):
    """An answer, or a part of one."""

    model_config = ConfigDict(defer_build=True)
