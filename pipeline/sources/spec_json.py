"""Specs as they are kept in records: plain JSON and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from pipeline.sources.base import SourceSpec
from pipeline.sources.parts import Layout, Part, Site
from pipeline.sources.seen import Seen


def spec_to_json(spec: SourceSpec) -> dict[str, Any]:
    """A spec as JSON; what has its default is left out, for a record may hold 1000 parts."""
    found = {key: value for key, value in asdict(spec).items() if value not in ("", None, ())}
    if spec.seen.is_plain:
        del found["seen"]
    found["parts"] = [
        {
            "spec": spec_to_json(part.spec),
            "offset": list(part.offset),
            "shape": None if part.shape is None else list(part.shape),
            "channels": list(part.channels),
            "along": part.along,
            "origin_um": list(part.origin_um),
        }
        for part in spec.parts
    ]
    return found if spec.parts else {k: v for k, v in found.items() if k != "parts"}


def spec_from_json(content: Mapping[str, Any]) -> SourceSpec:
    """What `spec_to_json` gave.

    Raises
    ------
    TypeError, KeyError
        It is nothing of the kind.
    """
    plain = {k: v for k, v in content.items() if k not in ("parts", "layout", "site", "seen")}
    layout, site = content.get("layout"), content.get("site")
    return SourceSpec(
        **plain,
        parts=tuple(_part(part) for part in content.get("parts", ())),
        layout=Layout(**{**layout, "cells": tuple(layout["cells"])}) if layout else None,
        site=Site(**site) if site else None,
        seen=Seen.of(content.get("seen")),
    )


def _part(content: Mapping[str, Any]) -> Part:
    t, c, z, y, x = content["offset"]
    shape, origin = content["shape"], content.get("origin_um", (None, None, None))
    return Part(
        spec_from_json(content["spec"]),
        (t, c, z, y, x),
        None if shape is None else (shape[0], shape[1], shape[2], shape[3], shape[4]),
        tuple(content["channels"]),
        content["along"],
        (origin[0], origin[1], origin[2]),
    )
