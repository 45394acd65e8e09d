"""Lists of pictures: pairs by template, meta-info files and where they are looked for, partners that are missing."""

import logging

import pytest

from hriusr.data.image_io import write_image
from hriusr.data.lmdb_store import write_lmdb
from hriusr.data.picture_paths import paired_keys, paired_paths, read_meta_info, single_paths
from hriusr.data.prepare import prepare_meta_info
from hriusr.errors import DataError


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """Return a function that makes empty files below the working folder."""
    monkeypatch.chdir(tmp_path)

    def make(*names, content=""):
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(content)

    return make


def test_template_and_other_suffix_find_the_partner(tree):
    tree("gt/a10.png", "gt/a9.png", "lq/a9x2.webp", "lq/a10x2.png", "lq/a10x2.webp")
    pairs = paired_paths("gt", "lq", None, "{}x2")
    assert pairs == [("gt/a9.png", "lq/a9x2.webp"), ("gt/a10.png", "lq/a10x2.png")]


def test_without_lq_folder_the_partner_is_none(tree):
    tree("gt/a.png")
    assert paired_paths("gt", None, None) == [("gt/a.png", None)]


def test_superfluous_lq_is_left_out_with_a_warning(tree, caplog):
    tree("gt/a.png", "lq/a.png", "lq/b.png")
    with caplog.at_level(logging.WARNING):
        assert len(paired_paths("gt", "lq", None)) == 1
    assert "1 pictures of lq have no partner" in caplog.text


def test_missing_partner_is_named_with_a_guess_of_the_template(tree):
    tree("gt/a.png", "gt/b.png", "lq/ax2.png", "lq/bx2.png")
    with pytest.raises(DataError, match=r"2 of 2 .*first gt/a\.png .*filename_tmpl: '\{\}x2'"):
        paired_paths("gt", "lq", None)
    with pytest.raises(DataError, match=r"looked for ax4"):
        paired_paths("gt", "lq", None, "{}x4")
    with pytest.raises(DataError, match=r"filename_tmpl \(='x4'\)"):
        paired_paths("gt", "lq", None, "x4")
    for template in ("{}_{}", "{}{x}", "{0}{}", "{{}}", "{}}"):
        with pytest.raises(DataError, match=r"filename_tmpl .* must hold \{\} once, .*such as '\{\}x4'"):
            paired_paths("gt", "lq", None, template)


def test_missing_lq_folder_is_named(tree):
    tree("gt/a.png")
    with pytest.raises(DataError, match=r"folder lq does not exist.*dataroot_lq"):
        paired_paths("gt", "lq", None)


def test_meta_info_decides_on_names_and_order(tree):
    tree("gt/a.png", "gt/b.png", "gt/c.png", "lq/a.png", "lq/b.png", "lq/c.png")
    tree("list.txt", content="c.png (480,480,3)\n\na.png (480,480,3)\n")
    assert paired_paths("gt", "lq", "list.txt") == [("gt/c.png", "lq/c.png"), ("gt/a.png", "lq/a.png")]
    assert single_paths("gt", "list.txt") == ["gt/c.png", "gt/a.png"]


def test_meta_info_with_subfolders_finds_lq_there_or_flat(tree):
    tree("gt/s/a.png", "gt/t/b.png", "lq/s/a.png", "lq/b.png")
    tree("list.txt", content="s/a.png 0\nt/b.png 1\n")
    assert [pair.lq for pair in paired_paths("gt", "lq", "list.txt")] == ["lq/s/a.png", "lq/b.png"]


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("0001_s001.png (480,480,3)", "0001_s001.png"),
        ("0001_s001.png (480,480,3) 1", "0001_s001.png"),
        ("n01/n01_1.JPEG 0", "n01/n01_1.JPEG"),
        ("000/00000001 7 (256,448,3)", "000/00000001"),
        ("my photo.png", "my photo.png"),
        ("my photo.png (480,480,3)", "my photo.png"),
        ("a (1,2,3).png (480,480,3)", "a (1,2,3).png"),
        ("a.png copy.png (480,480,3)", "a.png copy.png"),
        ("a.png b.png", "a.png"),
    ],
)
def test_meta_info_line_begins_with_the_name(tree, line, name):
    tree("list.txt", content=f"{line}\n")
    assert read_meta_info("list.txt") == [name]


def test_meta_info_made_of_names_with_spaces_is_read_back(tmp_path, photo):
    names = ["my photo.png", "photo (4,4,3).png", "plain.png"]
    for name in names:
        write_image(tmp_path / "gt" / name, photo("coffee")[:4, :4])
    prepare_meta_info(tmp_path / "gt", tmp_path / "list.txt")
    assert single_paths(str(tmp_path / "gt"), str(tmp_path / "list.txt")) == [str(tmp_path / "gt" / n) for n in names]


@pytest.mark.parametrize("package", ["hat", "basicsr"])
@pytest.mark.parametrize("place", ["datasets/meta_info/X.txt", "elsewhere/meta_info/X.txt"])
def test_meta_info_inside_another_package_is_found_among_ours(tree, package, place):
    tree(place, content="a.png 1\n")
    assert read_meta_info(f"{package}/data/meta_info/X.txt", "elsewhere/DF2K/HR_sub") == ["a.png"]


def test_missing_and_empty_meta_info_say_the_remedy(tree):
    with pytest.raises(
        DataError, match=r"hat/data/meta_info/X\.txt nor at datasets/meta_info/X\.txt.*prepare meta-info"
    ):
        read_meta_info("hat/data/meta_info/X.txt")
    with pytest.raises(DataError, match=r"list\.txt does not exist.*prepare meta-info"):
        read_meta_info("list.txt")
    tree("list.txt", content="\n")
    with pytest.raises(DataError, match=r"list\.txt lists no picture"):
        read_meta_info("list.txt")
    tree("gt/a.png")
    tree("list.txt", content="a.png\nb.png\n")
    with pytest.raises(DataError, match=r"list\.txt lists 2 pictures of which 1 do not exist, first gt/b\.png"):
        single_paths("gt", "list.txt")


def test_databases_must_have_the_same_keys(tmp_path):
    gt, lq = tmp_path / "gt.lmdb", tmp_path / "lq.lmdb"
    write = lambda path, *keys: write_lmdb(  # noqa: E731
        path, [(key, b"", (8, 8, 3)) for key in keys], map_size=10**6, compression=1
    )
    write(gt, "b", "a")
    write(lq, "a", "b")
    assert paired_keys(gt, lq) == [("a", "a"), ("b", "b")]
    assert paired_keys(gt, None)[0] == ("a", None)
    write(lq, "ax2", "b")
    with pytest.raises(DataError, match=r"2 keys .*first 'a' in .*gt\.lmdb.*prepare lmdb"):
        paired_keys(gt, lq)


def test_partners_of_subfolders_lie_in_subfolders_alike_or_beside_all_others(tree):
    tree("gt/1.png", "gt/sub/1.png", "lq/1.png", "lq/sub/1.png", "gt/sub/2.png", "lq/2.png")
    pairs = paired_paths("gt", "lq", None, recursive=True)
    assert pairs == [("gt/1.png", "lq/1.png"), ("gt/sub/1.png", "lq/sub/1.png"), ("gt/sub/2.png", "lq/2.png")]


def test_two_pictures_with_one_partner_are_refused(tree):
    tree("gt/1.png", "gt/sub/1.png", "lq/1.png")
    with pytest.raises(DataError, match=r"lq/1\.png would be the partner of both gt/1\.png and gt/sub/1\.png"):
        paired_paths("gt", "lq", None, recursive=True)
    tree("two/1.png", "two/1.jpg")
    with pytest.raises(DataError, match=r"both two/1\.jpg and two/1\.png: rename one"):
        paired_paths("two", "lq", None)
    tree("twice.txt", content="1.png\n1.png\n")  # a picture that counts twice
    assert paired_paths("gt", "lq", "twice.txt") == [("gt/1.png", "lq/1.png")] * 2


def test_hidden_folders_are_passed_over(tree):
    tree("gt/a/1.png", "gt/a/.thumbnails/1.png", "gt/.trash/2.png")
    assert single_paths("gt", None, recursive=True) == ["gt/a/1.png"]


def test_lists_of_windows_editors(tree, tmp_path):
    tree("gt/a.png")
    (tmp_path / "list.txt").write_text("a.png\r\n", encoding="utf-8-sig")
    assert read_meta_info("list.txt", "gt") == ["a.png"]
    (tmp_path / "list.txt").write_bytes(b"caf\xe9.png\n")
    with pytest.raises(DataError, match=r"list\.txt is no UTF-8 text \(.* at byte 3\): save it as UTF-8"):
        read_meta_info("list.txt", "gt")
