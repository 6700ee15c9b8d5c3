"""Types of the arguments of architectures: a card names them, and pydantic checks them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

#: Channels, classes, rates. The limit keeps a wrong card from asking for all memory.
Count = Annotated[int, Field(ge=1, le=65536, strict=True)]
Depth = Annotated[int, Field(ge=1, le=8, strict=True)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Flag = Annotated[bool, Field(strict=True)]

NormName = Literal["batch", "instance", "group", "none"]
ResNetName = Literal["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"]
