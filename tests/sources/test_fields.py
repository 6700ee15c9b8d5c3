"""Files that belong together by their names, and fields that belong to one well."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import TypeAdapter, ValidationError

from pipeline.errors import EmptyArchiveError, RecipeError
from pipeline.sources import discover
from pipeline.sources.fields import gather, natural, stitched
from pipeline.sources.file_names import Files
from pipeline.sources.parts import Layout, Site

GUID = "051DAA7C-7042-435F-99F0-1E847D9B42CB"


def fill(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def files(value):
    return TypeAdapter(Files).validate_python(value)


def gathered(root, value):
    return gather(discover(root), root, files(value))


def told(specs):
    """Name -> the parts' places and files, or the fault."""
    return {
        s.name: s.fault or [(p.offset[:3], Path(p.spec.path).name, *p.channels) for p in s.parts]
        for s in specs
    }


def test_a_template(tmp_path):
    fill(tmp_path, *(f"p1/{w}_{f}_{c}.tif" for w in ("A1", "b02") for f in "12" for c in "xy"))
    specs = gathered(tmp_path, "{plate}/{well}_{field}_{channel}.tif")
    assert told(specs)["p1/B/02/1"] == [
        ((0, 0, 0), "b02_1_x.tif", "x"),
        ((0, 1, 0), "b02_1_y.tif", "y"),
    ]
    assert [s.site for s in specs] == [
        Site("p1", *place) for place in [("A", "1", "1"), ("A", "1", "2")]
    ] + [Site("p1", "B", "02", "1"), Site("p1", "B", "02", "2")]
    # The archive may be the plate itself.
    assert [s.name for s in gathered(tmp_path / "p1", "{plate}/{well}_{field}_{channel}")] == [
        s.name for s in specs
    ]
    assert gathered(tmp_path / "p1", "{well}_{field}_{channel}")[0].name == "p1/A/1/1"


def test_one_channel_a_file_without_wells(tmp_path):
    fill(tmp_path, *(f"01_POS002_{c}.TIF" for c in "RFD"))
    (spec,) = gathered(tmp_path, {"template": "{field}_{channel}.tif", "channels": {"D": "DNA"}})
    assert spec.name == "01_POS002"
    assert spec.site == Site("", "", "", "01_POS002")
    assert [p.channels[0] for p in spec.parts] == ["DNA", "F", "R"]
    assert {p.along for p in spec.parts} == {"c"}
    fill(tmp_path, "a/D.tif", "a/F.tif", "b/D.tif", "b/F.tif")
    specs = gathered(tmp_path, {"template": "{channel:[DF]}.tif", "ignore": ["01_*"]})
    assert [s.name for s in specs] == ["a", "b"]


@pytest.mark.parametrize(
    ("preset", "names", "site", "place"),
    [
        (
            "imagexpress",
            [
                f"P/TimePoint_{t}/ZStep_{z}/P_A01_s3_w{c}{GUID}.tif"
                for t in (1, 2)
                for c in (1, 2)
                for z in (1, 2, 10)
            ],
            Site("P", "A", "01", "3"),
            ((1, 1, 2), f"P_A01_s3_w2{GUID}.tif", "w2"),
        ),
        (
            "MetaXpress",
            ["x/P_C12_s1_w1.TIF", f"x/P_C12_s1_w1_thumb{GUID}.tif"],
            Site("x/P", "C", "12", "1"),
            ((0, 0, 0), "P_C12_s1_w1.TIF", "w1"),
        ),
        (
            "phenix",
            [f"M/Images/r02c11f01p{z:02d}-ch{c}sk1fk1fl1.tiff" for c in (1, 3) for z in (1, 2)],
            Site("M", "B", "11", "01"),
            ((0, 1, 1), "r02c11f01p02-ch3sk1fk1fl1.tiff", "ch3"),
        ),
        (
            "cellvoyager",
            [
                *(f"AP_#65_P24_T0001F002L01A0{c}Z01C0{c}.tif" for c in (1, 2)),
                "DC_sCMOS #1_CAM1.tif",
                "SC_BP445-45_40x_M10_CH01.tif",
            ],
            Site("AP_#65", "P", "24", "002"),
            ((0, 1, 0), "AP_#65_P24_T0001F002L01A02Z01C02.tif", "C02"),
        ),
        (
            "incucyte",
            [f"VID1_B3_1_2021y03m0{d}d_00h00m.tif" for d in (4, 5)],
            Site("VID1", "B", "3", "1"),
            ((1, 0, 0), "VID1_B3_1_2021y03m05d_00h00m.tif"),
        ),
    ],
)
def test_presets(tmp_path, preset, names, site, place):
    (spec,) = gathered(fill(tmp_path, *names), preset)
    assert spec.site == site
    assert told([spec])[spec.name][-1] == place
    others = [name for name in names if "thumb" in name or name.startswith(("DC_", "SC_"))]
    assert len(spec.parts) == len(names) - len(others)


def test_what_a_field_lacks_is_named_and_costs_that_field(tmp_path):
    names = [
        f"p/A0{w}_{f}_{c}_z{z}.tif" for w in (1, 2) for f in (1, 2) for c in "xy" for z in "12"
    ]
    fill(tmp_path, *names)
    (tmp_path / "p/A01_2_y_z2.tif").unlink()
    fill(tmp_path, "p/A02_1_x_z3.tif", "p/overview.png")
    found = told(gathered(tmp_path, "{plate}/{well}_{field}_{channel}_z{z}.tif"))
    assert "it lacks channel y, z 2, of the files" in found["p/A/01/2"]
    assert "it alone has channel x, z 3, of the files" in found["p/A/02/1"]
    assert 'its name does not fit source.files "{plate}/' in found["p/overview"]
    assert [len(found[n]) for n in ("p/A/01/1", "p/A/02/2")] == [4, 4]


def test_a_projection_beside_planes_is_named_and_is_no_plane(tmp_path):
    planes = [f"P/TimePoint_1/ZStep_{z}/P_A01_s{s}_w1.tif" for s in (1, 2) for z in (1, 2)]
    fill(tmp_path, *planes, *(f"P/TimePoint_1/P_A01_s{s}_w1.tif" for s in (1, 2)))
    found = told(gathered(tmp_path, "imagexpress"))
    for s in (1, 2):
        assert found.pop(f"P/A/01/{s}") == (
            f"some of its files say no z (P/TimePoint_1/P_A01_s{s}_w1.tif), and others do "
            f"(P/TimePoint_1/ZStep_1/P_A01_s{s}_w1.tif, P/TimePoint_1/ZStep_2/P_A01_s{s}_w1.tif); "
            "list those that are no part of it under source.files.ignore, or correct the pattern"
        )
    assert not found
    # As it says; and where one field alone has a projection, the other goes on.
    (tmp_path / "P/TimePoint_1/P_A01_s2_w1.tif").unlink()
    found = told(gathered(tmp_path, "imagexpress"))
    assert ["say no z" in found["P/A/01/1"], len(found["P/A/01/2"])] == [True, 2]
    specs = gathered(tmp_path, {"preset": "imagexpress", "ignore": ["*TimePoint_?/P_*"]})
    assert [len(s.parts) for s in specs] == [2, 2]


def test_files_that_say_a_channel_beside_files_that_do_not(tmp_path):
    fill(tmp_path, *(f"P_A0{n}_s1_w1.tif" for n in (1, 2, 3)), "P_A01_s1.tif")
    found = told(gathered(tmp_path, "imagexpress"))
    assert "say no channel (P_A01_s1.tif), and others do (P_A01_s1_w1.tif);" in found["P/A/01/1"]
    assert found["P/A/02/1"] == [((0, 0, 0), "P_A02_s1_w1.tif", "w1")]
    # Of different fields: those that are fewer are named.
    (tmp_path / "P_A01_s1_w1.tif").unlink()
    found = told(gathered(tmp_path, "imagexpress"))
    assert "its files say no channel (P_A01_s1.tif), and those of other" in found["P/A/01/1"]
    assert len(found["P/A/02/1"]) == 1
    fill(tmp_path, "P_A02_s1.tif", "P_A03_s1.tif", "P_A04_s1_w2.tif", "P_A05_s1.tif")
    for n in (2, 3):
        (tmp_path / f"P_A0{n}_s1_w1.tif").unlink()
    found = told(gathered(tmp_path, "imagexpress"))
    assert "its files say a channel (P_A04_s1_w2.tif), and those of other" in found["P/A/04/1"]
    assert len(found["P/A/05/1"]) == 1


def test_two_files_for_one_place_are_named(tmp_path):
    fill(tmp_path, "p/A1_1_x.tif", "p/A1_1_x.png", "p/A2_1_x.tif")
    found = told(gathered(tmp_path, "{plate}/{well}_{field}_{channel}"))
    assert found["p/A/1/1"] == "A1_1_x.png and A1_1_x.tif both are channel x of it"
    assert len(found["p/A/2/1"]) == 1


def test_a_pattern_that_fits_nothing(tmp_path):
    fill(tmp_path, "p/A1.tif")
    with pytest.raises(
        RecipeError, match=r'source.files "phenix" fits none of its 1 files.*A1\.tif'
    ):
        gathered(tmp_path, "phenix")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("phenx", "'phenx' is none of imagexpress.*did you mean 'phenix'"),
        ("{wel}_{field}.tif", "'wel' is none of plate, well.*did you mean 'well'"),
        ({"regex": "(?P<well"}, "no regular expression"),
        ({"template": "{well}", "regex": "a"}, "give one of"),
        ({"template": "a.tif"}, "name what changes"),
        ("{row}_{field}", "give both"),
        ("{well}{row}{column}", "not both"),
        ({"template": "{channel}", "channels": {"a": "x", "b": "x"}}, "cannot have one name"),
        ({"template": "{channel}", "channels": {"a": "x", "A": "y"}}, "name each once"),
        ("{wel l}", r"\{wel l\} is no group"),
    ],
)
def test_patterns_that_are_refused(value, message):
    with pytest.raises(ValidationError, match=message):
        files(value)


def test_a_regular_expression_of_ones_own(tmp_path):
    fill(tmp_path, "x/foo-7-A.tif", "x/foo-7-B.tif")
    (spec,) = gathered(tmp_path, {"regex": r"^foo-(?P<field>\d)-(?P<channel>[AB])\.tif$"})
    assert told([spec]) == {
        "x/7": [((0, 0, 0), "foo-7-A.tif", "A"), ((0, 1, 0), "foo-7-B.tif", "B")]
    }


def test_fields_of_a_well_become_one_image(tmp_path):
    fill(tmp_path, *(f"p/{w}_s{f}.tif" for w in ("A1", "A2") for f in (1, 2, 10)))
    (tmp_path / "p/A2_s2.tif").unlink()
    specs = stitched(gathered(tmp_path, "{well}_s{field}.tif"), tmp_path, Layout(columns=2))
    assert [s.name for s in specs] == ["p/A/1", "p/A/2"]
    assert specs[1].site == Site("p", "A", "2", "")
    assert [s.layout.cells for s in specs if s.layout] == [(0, 1, 2), (0, 2)]
    assert [p.spec.name for p in specs[0].parts] == ["p/A/1/1", "p/A/1/2", "p/A/1/10"]


def test_tiles_of_a_folder_become_one_image(tmp_path):
    fill(tmp_path, "a/t_1.tif", "a/t_2.tif", "b.tif")
    found = gathered(tmp_path, {"template": "t_{field}.tif", "ignore": ["b.tif"]})
    specs = stitched(found, tmp_path, Layout())
    assert [(s.name, s.site, len(s.parts)) for s in specs] == [("a", None, 2)]
    found = gathered(tmp_path / "a", "t_{field}.tif")
    assert [s.name for s in stitched(found, tmp_path / "a", Layout())] == ["a"]


def test_a_field_that_lacks_a_file_costs_its_well(tmp_path):
    fill(tmp_path, *(f"p/{w}_{f}_{c}.tif" for w in ("A1", "A2") for f in "12" for c in "xy"))
    (tmp_path / "p/A2_2_x.tif").unlink()
    found = gathered(tmp_path, "{well}_{field}_{channel}.tif")
    specs = stitched(found, tmp_path, Layout(columns=2))
    assert [bool(s.fault) for s in specs] == [False, True]
    assert specs[1].fault.startswith("its field p/A/2/2: it lacks channel x")


def test_natural_order():
    assert sorted(["w10", "w2", "w1", "a"], key=natural) == ["a", "w1", "w2", "w10"]


def test_spellings_of_one_thing_are_one(tmp_path, caplog):
    fill(
        tmp_path,
        *("Plate1_A01_1_w1_z1.tif", "plate1_a1_1_W1_z02.tif"),
        *("plate1_A01_01_w2_z01.tif", "PLATE1_A1_1_w2_z2.tif"),
        "plate1_B02_02_w1_z1.tif",
    )
    template = "{plate}_{well}_{field}_{channel}_z{z}.tif"
    channels = {"W1": "DNA", "w7": "actin"}
    specs = gathered(tmp_path, {"template": template, "channels": channels})
    assert [s.name for s in specs] == ["PLATE1/A/1/1", "PLATE1/B/02/02"]
    assert told(specs[:1])["PLATE1/A/1/1"] == [
        ((0, 0, 0), "Plate1_A01_1_w1_z1.tif", "DNA"),
        ((0, 0, 1), "plate1_a1_1_W1_z02.tif", "DNA"),
        ((0, 1, 0), "plate1_A01_01_w2_z01.tif", "w2"),
        ((0, 1, 1), "PLATE1_A1_1_w2_z2.tif", "w2"),
    ]
    assert "lacks" in specs[1].fault
    assert 'no file has the channel "w7"' in caplog.text


def test_folders_of_two_spellings_are_one_plate(tmp_path):
    fill(tmp_path, "x/Ä/A01_s1_w1.tif", "x/a\u0308/A01_s1_w1.tif", "x/a\u0308/A01_s2_w1.tif")
    found = told(gathered(tmp_path, "imagexpress"))
    assert len(found) == 2
    (fault,) = (said for said in found.values() if isinstance(said, str))
    assert fault == "a\u0308/A01_s1_w1.tif and Ä/A01_s1_w1.tif both are channel w1 of it"


def test_zeros_before_a_number_are_no_second_image(tmp_path):
    fill(tmp_path, "p/A1_1.tif", "p/A01_01.tif")
    (spec,) = gathered(tmp_path, "{plate}/{well}_{field}.tif")
    assert spec.fault == "A01_01.tif and A1_1.tif both are the same image of it"


@pytest.mark.parametrize(
    ("channels", "message"),
    [
        ({"w1": "w2"}, 'calls both "w1" and "w2" "w2"'),
        ({"w9": "DNA"}, r'names "w9", and its files have the channels w1, w2 \(did you mean'),
    ],
)
def test_names_of_channels_that_cannot_be(tmp_path, channels, message):
    fill(tmp_path, "p/A01_s1_w1.tif", "p/A01_s1_w2.tif")
    with pytest.raises(RecipeError, match=message):
        gathered(tmp_path, {"preset": "imagexpress", "channels": channels})


def test_what_a_preset_leaves_out_is_told_by_names_of_files(tmp_path, caplog):
    fill(tmp_path, "my_thumbs/A01_s1_w1.tif", "my_thumbs/A01_s1_w1_thumb.tif")
    (spec,) = gathered(tmp_path, "imagexpress")
    assert len(spec.parts) == 1
    assert "source.files leaves out 1 of 2 files" in caplog.text
    (tmp_path / "my_thumbs/A01_s1_w1.tif").unlink()
    with pytest.raises(EmptyArchiveError, match="leaves out all of its 1 files"):
        gathered(tmp_path, "imagexpress")
