"""LMDB databases: written and read back, read by BasicSR, broken ones named."""

import multiprocessing
import os
import time

import numpy as np
import pytest

from hriusr import basicsr_bridge  # noqa: F401 - before the import of basicsr in a test
from hriusr.data.image_io import encode_image, read_image_bytes, write_image
from hriusr.data.lmdb_store import lmdb_get, lmdb_keys, write_lmdb
from hriusr.data.prepare import prepare_lmdb
from hriusr.errors import DataError


@pytest.fixture
def pictures(photo):
    coffee = photo("coffee")
    return {f"img.{number}": coffee[:20, : 20 + number] for number in range(3)}


@pytest.fixture
def database(tmp_path, pictures):
    encoded = ((key, encode_image(image, ".png"), image.shape) for key, image in pictures.items())
    assert write_lmdb(tmp_path / "x.lmdb", encoded, map_size=10**7, compression=3) == 3
    return tmp_path / "x.lmdb"


def test_what_was_written_is_read(database, pictures):
    assert lmdb_keys(database) == list(pictures)
    for key, image in pictures.items():
        np.testing.assert_array_equal(read_image_bytes(lmdb_get(database, key), key), image)
    assert (database / "meta_info.txt").read_text().splitlines()[1] == "img.1.png (20,21,3) 3"
    assert [path.name for path in database.parent.iterdir()] == ["x.lmdb"]


def test_basicsr_reads_it(database, pictures):
    from basicsr.utils import FileClient, imfrombytes

    client = FileClient("lmdb", db_paths=[str(database)], client_keys=["gt"])
    image = imfrombytes(client.get("img.2", "gt"))
    np.testing.assert_array_equal(image[..., ::-1], pictures["img.2"])


def _length(arguments):
    return len(lmdb_get(*arguments))


def test_child_process_opens_its_own(database):
    length = len(lmdb_get(database, "img.0"))
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.map(_length, [(database, "img.0")]) == [length]


def test_rewriting_replaces_the_old_database(database):
    write_lmdb(database, [("only", b"1", (1, 1, 3))], map_size=10**6, compression=1, notes={"note.json": "{}"})
    assert lmdb_keys(database) == ["only"]
    assert lmdb_get(database, "only") == b"1"
    assert (database / "note.json").read_text() == "{}"


def test_failed_write_leaves_the_old_database(database, pictures):
    def broken():
        yield "new", b"1", (1, 1, 3)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_lmdb(database, broken(), map_size=10**6, compression=1)
    with pytest.raises(DataError, match="two pictures have the key 'a'"):
        write_lmdb(database, [("a", b"1", (1, 1, 3))] * 2, map_size=10**6, compression=1)
    with pytest.raises(DataError, match=r"cannot write .*x\.lmdb.*free space"):
        write_lmdb(database, [("a", bytes(10**6), (1, 1, 3))], map_size=10**5, compression=1)
    assert lmdb_keys(database) == list(pictures)
    assert [path.name for path in database.parent.iterdir()] == ["x.lmdb"]


@pytest.mark.parametrize("ending", ["tmp", "old.tmp"])
def test_leftovers_of_a_killed_process_are_removed(database, ending):
    def leave(process, age, *names):
        folder = database.with_name(f".x.lmdb.{process}.{ending}")
        folder.mkdir()
        for path in [*(folder / name for name in names), folder]:
            path.touch()
            os.utime(path, (time.time() - age,) * 2)
        return folder

    gone = [leave(999999999, 100, "data.mdb", "lock.mdb"), leave(999999998, 100)]
    kept = [leave(999999997, 100, "data.mdb", "notes.txt"), leave(999999996, 0, "data.mdb"), leave(os.getppid(), 100)]
    kept.append(gone[0].with_name(f".other.lmdb.999999999.{ending}"))
    kept[-1].mkdir()
    write_lmdb(database, [("only", b"1", (1, 1, 3))], map_size=10**6, compression=1)
    assert not any(folder.exists() for folder in gone)
    assert all(folder.exists() for folder in kept)


def test_leftovers_are_removed_beside_a_database_that_is_up_to_date(tmp_path, photo):
    write_image(tmp_path / "hr" / "coffee.png", photo("coffee")[:20, :20])
    make = lambda: prepare_lmdb(tmp_path / "hr", tmp_path / "x.lmdb", num_processes=1, progress=False)  # noqa: E731
    assert make().num_made == 1
    left = tmp_path / ".x.lmdb.999999999.tmp"
    left.mkdir()
    for path in (left / "data.mdb", left / "prepare.json", left):
        path.touch()
        os.utime(path, (0, 0))
    assert make().num_made == 0
    assert {path.name for path in tmp_path.iterdir()} == {"hr", "x.lmdb"}


def test_last_copy_of_a_database_stays_until_there_is_another(tmp_path):
    copy = tmp_path / ".x.lmdb.999999999.old.tmp"
    copy.mkdir()
    os.utime(copy, (0, 0))

    def pictures():
        assert copy.exists()
        yield "only", b"1", (1, 1, 3)

    write_lmdb(tmp_path / "x.lmdb", pictures(), map_size=10**6, compression=1)
    assert [path.name for path in tmp_path.iterdir()] == ["x.lmdb"]


def test_what_is_no_database_is_not_replaced(database):
    write = lambda path: write_lmdb(path, [("only", b"1", (1, 1, 3))], map_size=10**6, compression=1)  # noqa: E731
    (database / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match=r"x\.lmdb holds notes\.txt, which is no part of a database.*another name"):
        write(database)
    assert (database / "notes.txt").read_text() == "mine"
    file = database.with_name("file.lmdb")
    file.write_text("mine")
    with pytest.raises(DataError, match=r"file\.lmdb is a file, not a database"):
        write(file)
    with pytest.raises(DataError, match=r"cannot write .*file\.lmdb/x\.lmdb .*another place"):
        write(file / "x.lmdb")
    assert file.read_text() == "mine"
    assert {path.name for path in database.parent.iterdir()} == {"x.lmdb", "file.lmdb"}


def test_broken_databases_are_named(database, tmp_path):
    with pytest.raises(DataError, match="io_backend"):
        lmdb_keys(tmp_path)
    with pytest.raises(DataError, match="hriusr prepare lmdb"):
        lmdb_keys(tmp_path / "none.lmdb")
    with pytest.raises(DataError, match="no picture 'missing'"):
        lmdb_get(database, "missing")
    (database / "meta_info.txt").write_text("img_0.png 20 20\n")
    with pytest.raises(DataError, match=r"meta_info\.txt:1: 'img_0\.png 20 20'"):
        lmdb_keys(database)
    (database / "meta_info.txt").write_text("")
    with pytest.raises(DataError, match="lists no picture"):
        lmdb_keys(database)
    (database / "meta_info.txt").unlink()
    with pytest.raises(DataError, match="cannot be read"):
        lmdb_keys(database)
    with pytest.raises(DataError, match=r"must be named \.lmdb"):
        write_lmdb(tmp_path / "x", [], map_size=1000, compression=1)


def test_damaged_database_is_an_error_and_not_a_killed_process(database):
    content = (database / "data.mdb").read_bytes()
    (database / "data.mdb").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"x\.lmdb is cut off .*copy it again"):
        lmdb_get(database, "img.0")
    (database / "data.mdb").write_bytes(b"rubbish")
    with pytest.raises(DataError, match="cannot be opened"):
        lmdb_get(database, "img.0")
