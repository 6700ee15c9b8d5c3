"""Objects of a real S3 server, used like files."""

from __future__ import annotations

import errno
import functools

import pytest

from pipeline.errors import OutputError, RecipeError
from pipeline.run_folder import RunFolder
from pipeline.sources import discover
from pipeline.storage import StorePath, path_of
from pipeline.storage.paths import Entry
from pipeline.storage.reading import open_file, size_of
from pipeline.storage.stores import first_line, open_store
from tests.storage.s3 import KEYS

NAMES = ["a.tif", "a b.tif", "ä/µ.tif", "x#1?%41.tif", "deep/er/file", "+&=;,.txt"]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_put_is_there(bucket, name):
    place = bucket / name
    assert not place.exists()
    place.write_bytes(b"0123456789")
    assert place.is_file()
    assert place.read_bytes() == b"0123456789"
    assert place.read_ranges([3], [4]) == [b"3456"]
    assert place.read_ranges([0, 8], [3, 4]) == [b"012", b"89"]
    assert [item.name for item in bucket.walk()] == [name]
    assert path_of(str(place)) == place
    place.unlink()
    assert not place.exists()


def test_folders_are_what_names_have_in_common(bucket):
    for name in ("f/a.tif", "f/g/b.tif", "fa/c.tif", "f.tif"):
        (bucket / name).write_bytes(b"1")
    assert bucket.entries() == [Entry("f", True), Entry("f.tif", False), Entry("fa", True)]
    assert (bucket / "f").entries() == [Entry("a.tif", False), Entry("g", True)]
    assert sorted(item.name for item in (bucket / "f").walk()) == ["a.tif", "g/b.tif"]
    assert (bucket / "f").is_dir()
    assert not (bucket / "f").is_file()
    assert not (bucket / "g").is_dir()


def test_a_thousand_names_are_listed(bucket):
    for number in range(1005):
        (bucket / "many" / f"{number:04d}").write_bytes(b"")
    assert len((bucket / "many").entries()) == 1005
    assert len(list((bucket / "many").walk())) == 1005


def test_only_one_creates(bucket):
    place = bucket / "lock"
    assert place.create(b"mine")
    assert not place.create(b"yours")
    assert place.read_bytes() == b"mine"


def test_the_version_changes_with_the_content(bucket):
    place = bucket / "a"
    place.write_bytes(b"1")
    first = place.head()
    place.write_bytes(b"2")
    assert first is not None
    assert place.head() != first


def test_what_is_missing_says_so(bucket):
    with pytest.raises(FileNotFoundError) as caught:
        (bucket / "none").read_bytes()
    assert caught.value.filename == str(bucket / "none")
    with pytest.raises(FileNotFoundError):
        size_of(str(bucket / "none"))
    (bucket / "none").unlink(missing_ok=True)
    with pytest.raises(FileNotFoundError):
        (bucket / "none").unlink()


def test_a_store_that_fails_is_not_taken_for_a_missing_file(bucket, behind, monkeypatch):
    (bucket / "a").write_bytes(b"1")
    monkeypatch.setattr("pipeline.storage.stores.RETRIES", 1)
    behind(0.0).broken = True
    for ask in (StorePath.exists, StorePath.is_file, StorePath.is_dir, StorePath.read_bytes):
        with pytest.raises(OSError, match="did not answer") as caught:
            ask(bucket / "a")
        assert caught.value.errno == errno.EIO
        assert not isinstance(caught.value, FileNotFoundError)


def test_a_bucket_that_does_not_exist_is_named(bucket):
    place = StorePath.of(f"{bucket.root}-none") / "a"
    write = functools.partial(StorePath.write_bytes, data=b"1")
    create = functools.partial(StorePath.create, data=b"1")
    for ask in (StorePath.is_dir, StorePath.entries, StorePath.read_bytes, write, create):
        with pytest.raises(OSError, match="there is no such bucket") as caught:
            ask(place)
        assert caught.value.filename == str(place)
        assert not isinstance(caught.value, FileNotFoundError)
    with pytest.raises(RecipeError, match=r"-none/a: cannot be opened: there is no such bucket"):
        discover(place)
    with (
        pytest.raises(OutputError, match=r"-none/a: .* there is no such bucket"),
        RunFolder(place).writing(),
    ):
        pass


def test_missing_keys_are_named(bucket, monkeypatch):
    for key in KEYS:
        monkeypatch.delenv(key)
    # Machines of the provider would be asked for keys; here nobody answers.
    monkeypatch.setattr("pipeline.storage.stores.RETRIES", 0)
    monkeypatch.setattr("pipeline.storage.stores.RETRY_S", 1)
    open_store.cache_clear()
    names = "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION"
    with pytest.raises(PermissionError, match=f"no keys were found; .*{names}"):
        (bucket / "a").read_bytes()
    with pytest.raises(RecipeError, match=f"no keys were found; .*{names}"):
        discover(bucket / "a")
    with (
        pytest.raises(OutputError, match=f"no keys were found; .*{names}"),
        RunFolder(bucket / "a").writing(),
    ):
        pass


def test_a_stream_reads_like_the_bytes(bucket, monkeypatch):
    monkeypatch.setattr("pipeline.storage.reading.BLOCK_BYTES", 64)
    content = bytes(range(256)) * 3
    (bucket / "a").write_bytes(content)
    with open_file(str(bucket / "a")) as file:
        assert file.read(10) == content[:10]
        file.seek(-5, 2)
        assert file.read() == content[-5:]
        file.seek(60)
        assert file.read(200) == content[60:260]
        file.seek(0)
        assert file.read() == content


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("ftp://host/a", "is no address that is read"),
        ("s3://", "is no address that is read"),
        ("s3://bucket/../../a", "leads out of its bucket"),
    ],
)
def test_what_is_no_address(url, words):
    with pytest.raises(RecipeError, match=words):
        path_of(url)


@pytest.mark.parametrize(
    ("root", "variable"),
    [
        ("s3://b", "AWS_ENDPOINT_URL"),
        ("az://b", "AZURE_STORAGE_ENDPOINT"),
        ("gs://b", "GOOGLE_BASE_URL"),
    ],
)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_only_who_names_a_plain_endpoint_gets_one(root, variable, scheme, monkeypatch):
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "a")
    monkeypatch.setenv("GOOGLE_SKIP_SIGNATURE", "true")
    monkeypatch.setenv(variable, f"{scheme}://127.0.0.1:1/a")
    open_store.cache_clear()
    options = open_store(root).client_options or {}
    open_store.cache_clear()
    assert str(options["allow_http"]).lower() == str(scheme == "http").lower()


def test_messages_hold_no_signature_and_no_page():
    said = (
        "GET https://h/a%20b?sv=1&sig=SECRET in 1 ms - 403: <Error><AWSAccessKeyId>SECRET</Error>"
    )
    assert first_line(ValueError(said)) == "GET https://h/a%20b in 1 ms - 403"


def test_faults_are_ridden_out(bucket, behind):
    door = behind(0.4, seed=3)
    contents = {f"f{i}": bytes([i]) * (1000 + i) for i in range(40)}
    for name, content in contents.items():
        (bucket / name).write_bytes(content)
    assert {name: (bucket / name).read_bytes() for name in contents} == contents
    assert {item.name for item in bucket.walk()} == set(contents)
    assert (bucket / "lock").create(b"me")
    assert all(door.seen[kind] > 0 for kind in ("error", "busy", "slow", "lost", "cut"))
