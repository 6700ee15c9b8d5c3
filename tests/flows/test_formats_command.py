"""`tilewright formats`: what is read here, what is missing, and what brings it."""

from __future__ import annotations

import json

from pipeline.sources import formats
from pipeline.sources.formats import FORMATS


def test_every_format_is_listed_with_its_suffixes(here):
    said = here("formats").stdout
    for form in FORMATS:
        assert form.name in said
        assert all(suffix in said for suffix in form.suffixes)
    assert "NO " not in said


def test_what_is_missing_names_its_extra(here, monkeypatch):
    monkeypatch.setattr(formats, "find_spec", lambda name: None if name == "nd2" else object())
    said = here("formats").stdout
    assert "NO  Nikon ND2" in said
    assert "missing: nd2: pip install 'tilewright[formats]'" in said
    found = {entry["reader"]: entry for entry in json.loads(here("formats", "--json").stdout)}
    assert found["nd2"]["installed"] is False
    assert found["nd2"]["missing"] == ["nd2"]
    assert found["lif"]["installed"] is True
    assert found["lif"]["libraries"]["liffile"][0].isdigit()
    assert found["czi"]["suffixes"] == [".czi"]
