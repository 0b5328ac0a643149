"""Archives that lie, and what may come out of them."""

import gzip
import io
import lzma
import tarfile
import zipfile
from random import Random

import pytest

from llm4rec_cli.data.archives import damage, extract
from llm4rec_cli.errors import DataError

RATINGS = b"1,2,3\n" * 1000


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "inner" / "raw"


def zip_of(path, *members, compression=zipfile.ZIP_DEFLATED):
    """A zip archive of these (name, content), or (ZipInfo, content)."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


def tar_of(path, *members, mode="w:gz"):
    """A tar archive of these (name, content), or TarInfo for what is no file."""
    with tarfile.open(path, mode) as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                archive.addfile(info, io.BytesIO(member[1]))
    return path


def special(name, kind, to=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, to
    return info


def refusal(archive, folder, inside="set/ratings.csv"):
    """Return the error for an archive from which nothing is extracted."""
    with pytest.raises(DataError) as refused:
        extract(archive, {"ratings.csv": inside}, folder)
    assert str(archive) in refused.value.problem
    assert str(folder) in refused.value.remedy
    assert not folder.exists() or list(folder.iterdir()) == []
    return refused.value.problem


def everything(root):
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize("made", [zip_of, tar_of, lambda path, *members: tar_of(path, *members, mode="w")])
def test_only_the_named_members_come_out(made, tmp_path, folder):
    archive = made(tmp_path / "set", ("set/README", b"Terms."), ("set/ratings.csv", RATINGS))
    assert damage(archive, "set", archive=True) == ""
    extract(archive, {"train/all.csv": "set/ratings.csv"}, folder)
    assert (folder / "train/all.csv").read_bytes() == RATINGS
    assert everything(folder) == {"train/all.csv"}


def test_a_file_that_is_there_stays_and_a_link_next_to_a_file_is_not_followed(tmp_path, folder):
    folder.mkdir(parents=True)
    (folder / "ratings.csv").write_bytes(b"mine")
    extract(zip_of(tmp_path / "set.zip", ("ratings.csv", RATINGS)), {"ratings.csv": "ratings.csv"}, folder)
    assert (folder / "ratings.csv").read_bytes() == b"mine"
    # A folder that is a link is the way out of careless unpackers.
    archive = tar_of(
        tmp_path / "set.tar.gz", special("raw", tarfile.SYMTYPE, str(tmp_path)), ("raw/ratings.csv", RATINGS)
    )
    extract(archive, {"raw/ratings.csv": "raw/ratings.csv"}, folder)
    assert everything(folder) == {"ratings.csv", "raw/ratings.csv"}
    assert everything(tmp_path) == {"set.zip", "set.tar.gz", "inner/raw/ratings.csv", "inner/raw/raw/ratings.csv"}


@pytest.mark.parametrize("made", [zip_of, tar_of])
@pytest.mark.parametrize("evil", ["../../evil", "/tmp/llm4rec-evil", "C:\\evil", "..\\evil", "ratings.csv/../../evil"])
def test_names_that_lead_out_of_the_folder_lead_nowhere(made, evil, tmp_path, folder):
    archive = made(tmp_path / "set", (evil, b"evil"), ("set/ratings.csv", RATINGS))
    extract(archive, {"ratings.csv": "set/ratings.csv", "taken.csv": evil}, folder)
    assert everything(tmp_path) == {"set", "inner/raw/ratings.csv", "inner/raw/taken.csv"}


def test_what_is_no_regular_file_is_refused(tmp_path, folder):
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE):
        to = {tarfile.SYMTYPE: "/etc/passwd", tarfile.LNKTYPE: "set/other"}.get(kind, "")
        archive = tar_of(tmp_path / "set.tar.gz", ("set/other", b"x"), special("set/ratings.csv", kind, to))
        assert "is not a regular file" in refusal(archive, folder)
    symlink, directory, on_windows = 0o120777 << 16, 0o40755 << 16, 0x10
    for end, attributes in (("", symlink), ("/", directory), ("/", on_windows)):
        info = zipfile.ZipInfo(f"set/ratings.csv{end}")
        info.external_attr = attributes
        archive = zip_of(tmp_path / "set.zip", (info, b"/etc/passwd"))
        assert "is not a regular file" in refusal(archive, folder, info.filename)


@pytest.mark.parametrize("made", [zip_of, tar_of])
def test_a_bomb_is_refused(made, tmp_path, folder):
    archive = made(tmp_path / "set", ("set/ratings.csv", bytes(20_000_000)))
    assert "unpacks to more than 100 times its size" in refusal(archive, folder)


def test_a_bomb_that_lies_hides_or_comes_in_pieces_is_refused(tmp_path, folder):
    archive = zip_of(tmp_path / "set.zip", ("set/ratings.csv", bytes(20_000_000)))
    lying = archive.read_bytes().replace((20_000_000).to_bytes(4, "little"), (100).to_bytes(4, "little"))
    archive.write_bytes(lying)
    assert "is not a complete" in refusal(archive, folder)  # zipfile reads the stated size, and the checksum differs
    archive = tar_of(tmp_path / "set.tar.gz", ("bomb", bytes(20_000_000)), ("set/ratings.csv", RATINGS))
    assert "unpacks to more than 100 times its size" in refusal(archive, folder)
    members = [(f"{n}", bytes(700_000)) for n in range(3)]
    archive = zip_of(tmp_path / "set.zip", *members)
    with pytest.raises(DataError, match="100 times"):
        extract(archive, {name: name for name, _ in members}, folder)
    assert everything(folder) == {"0"}


@pytest.mark.parametrize("content", [bytes(1_000_000), Random(0).randbytes(2_000_000)], ids=["zeros", "noise"])
def test_small_files_may_shrink_as_they_like_and_large_ones_be_as_large_as_their_archive(content, tmp_path, folder):
    extract(zip_of(tmp_path / "set.zip", ("file", content)), {"file": "file"}, folder)
    assert (folder / "file").read_bytes() == content


def flipped(data, place):
    return data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :]


@pytest.mark.parametrize(
    ("made", "damage_to"),
    [
        *((made, lambda data: data[:-30]) for made in (zip_of, tar_of)),  # cut off
        *((made, lambda data: data[:60]) for made in (zip_of, tar_of)),
        *((made, lambda data: flipped(data, len(data) // 3)) for made in (zip_of, tar_of)),
        (zip_of, lambda data: flipped(data, data.rindex(b"PK\x05\x06") + 16)),  # where the directory begins
    ],
)
def test_a_damaged_archive_is_refused(made, damage_to, tmp_path, folder):
    archive = made(tmp_path / "set", ("set/ratings.csv", bytes(range(256)) * 100))
    archive.write_bytes(damage_to(archive.read_bytes()))
    assert "is not a complete" in refusal(archive, folder)


@pytest.mark.parametrize(
    ("offsets", "value", "message"),
    [((6, 8), 1, "which is encrypted"), ((8, 10), 99, "is not a complete")],
    ids=["encrypted", "an unknown compression"],
)
def test_a_member_that_cannot_be_read_is_refused(offsets, value, message, tmp_path, folder):
    archive = zip_of(tmp_path / "set.zip", ("set/ratings.csv", RATINGS))
    marked = bytearray(archive.read_bytes())
    for signature, offset in zip((b"PK\x03\x04", b"PK\x01\x02"), offsets, strict=True):  # both headers
        marked[marked.index(signature) + offset] = value
    archive.write_bytes(marked)
    assert message in refusal(archive, folder)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("made", [zip_of, tar_of])
@pytest.mark.parametrize(
    ("names", "wanted", "message"),
    [
        (["set/other.csv"], "set/ratings.csv", "has no files named 'set/ratings.csv'"),
        (["set/ratings.csv"] * 2, "set/ratings.csv", "has 2 files named 'set/ratings.csv'"),
        (["a/ratings.csv", "b/ratings.csv"], "ratings.csv", "has 2 files named 'ratings.csv'"),
    ],
)
def test_a_member_that_is_missing_or_ambiguous_is_named(made, names, wanted, message, tmp_path, folder):
    archive = made(tmp_path / "set", *((name, RATINGS + bytes(i)) for i, name in enumerate(names)))
    assert message in refusal(archive, folder, wanted)


def test_a_file_that_is_not_an_archive_is_reported(tmp_path):
    for content in (b"neither", b"neither" * 200, gzip.compress(b"no tar", mtime=0), lzma.compress(bytes(1024))):
        (tmp_path / "set.zip").write_bytes(content)
        assert "is not a complete zip, tar or gzip file" in damage(tmp_path / "set.zip", "set.zip", archive=True)


def test_a_file_is_found_by_its_name_in_a_folder_and_before_that_by_the_very_name(folder, tmp_path):
    for number, members in enumerate(
        (
            [("set/", b""), ("set/ratings.csv", RATINGS), ("set/my_ratings.csv", b"other")],
            [("old/ratings.csv", b"other"), ("ratings.csv", RATINGS)],
        )
    ):
        extract(zip_of(tmp_path / "a.zip", *members), {f"{number}.csv": "ratings.csv"}, folder)
        assert (folder / f"{number}.csv").read_bytes() == RATINGS
