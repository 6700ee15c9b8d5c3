"""Quality and profiles whose place is a bucket: the same as on disk."""

from __future__ import annotations

from flows.request import Request
from pipeline.table_file import table_digest
from pipeline.verify import verify_folder
from tests.in_process import digests
from tests.test_flat_field import archive_of, fields, recipe_of, run


def test_quality_and_profiles(bucket, tmp_path):
    """Written there, verified there, and given from there."""
    archive = archive_of(tmp_path / "archive", fields(9, (50, 60)))
    recipe = recipe_of({"estimate": "median"})
    here = run(Request(recipe, archive, tmp_path / "out"))
    there = run(Request(recipe, archive, bucket / "out"))
    assert digests(there) == digests(here)
    assert table_digest(there.quality) == table_digest(here.quality)
    profile = bucket / "out" / "profiles" / "0-flat.tif"
    assert profile.read_bytes() == (tmp_path / "out/profiles/0-flat.tif").read_bytes()
    assert verify_folder(there.root).damaged == []
    given = recipe_of({"profile": str(profile), "resize": True})
    again = run(Request(given, archive, tmp_path / "again"))
    assert digests(again) == digests(here)
    profile.write_bytes(b"")
    assert verify_folder(there.root).damaged == [f"{profile}: the profile was changed"]
