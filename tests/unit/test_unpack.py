"""Unpacking archives of anybody: all of the files or none, and none of them outside the folder."""

import os
import tarfile

import pytest

from scripts.data.hub import unpack as unpacking
from scripts.data.hub.unpack import UnpackError, is_unpacked, unpack
from tests.helpers.archives import IMAGE, archive


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/tmp/evil", "//evil"])
@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_an_archive_cannot_write_outside_its_folder(tmp_path, kind, name):
    path = tmp_path / "inside" / f"images.{kind}"
    path.parent.mkdir()
    path.write_bytes(archive({"good.jpg": IMAGE, name: b"x"}, kind))
    try:
        unpack(path, "checksum")  # an absolute path becomes a relative one, and so do all of a zip file's
    except UnpackError as error:
        assert kind == "tar.gz" and "outside the destination" in str(error)
        assert [item.name for item in path.parent.iterdir()] == [path.name]
    assert [item.name for item in tmp_path.iterdir()] == ["inside"]
    assert not os.path.lexists("/tmp/evil")


@pytest.mark.parametrize(
    "type_of_file",
    [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE],
    ids=["symbolic link", "hard link", "character device", "block device", "pipe"],
)
def test_an_archive_with_a_link_or_a_device_is_refused(tmp_path, type_of_file):
    path = tmp_path / "images.tar"
    with tarfile.open(path, "w") as packed:
        packed.addfile(tarfile.TarInfo("first.jpg"))
        member = tarfile.TarInfo("good.jpg")
        member.type, member.linkname = type_of_file, "first.jpg"
        packed.addfile(member)
    with pytest.raises(UnpackError, match=r"images\.tar cannot be unpacked: it holds a link or device, 'good\.jpg'"):
        unpack(path, "checksum")
    assert [item.name for item in tmp_path.iterdir()] == ["images.tar"]
    assert not is_unpacked(path, "checksum")


def test_a_link_in_a_zip_file_becomes_a_plain_file(tmp_path):
    (tmp_path / "images.zip").write_bytes(archive({"link": None}))
    assert unpack(tmp_path / "images.zip", "checksum") == 1
    assert not (tmp_path / "link").is_symlink() and (tmp_path / "link").read_bytes() == b"/etc"


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
@pytest.mark.parametrize(
    "files", [{"bomb.jpg": b"\0" * 2**22}, {f"{i}.jpg": b"" for i in range(2000)}], ids=["large", "very many"]
)
def test_an_archive_that_swells_is_left_before_it_fills_the_disk(tmp_path, monkeypatch, kind, files):
    monkeypatch.setattr(unpacking, "ALWAYS_ALLOWED", 2**16)
    monkeypatch.setattr(unpacking, "MAX_GROWTH", 2)
    path = tmp_path / f"images.{kind}"
    path.write_bytes(archive(files, kind))
    with pytest.raises(UnpackError, match=r"it holds more than \d+ bytes, which is too much for its size"):
        unpack(path, "checksum")
    assert [item.name for item in tmp_path.iterdir()] == [path.name]


def test_interrupted_unpacking_does_not_count_as_done(tmp_path, monkeypatch):
    path = tmp_path / "images.zip"
    path.write_bytes(archive({f"images/{i}.jpg": IMAGE for i in range(9)}))
    left = tmp_path / ".images.zip.unpacking"
    left.mkdir()
    (left / "half.jpg").write_bytes(b"x")  # of a start that was killed
    with monkeypatch.context() as patch:
        moved = []

        def break_down(source, target):
            moved.append(os.rename(source, target))
            if len(moved) == 4:
                raise KeyboardInterrupt

        patch.setattr("scripts.data.hub.unpack.os.replace", break_down)
        with pytest.raises(KeyboardInterrupt):
            unpack(path, "one")
    assert not is_unpacked(path, "one")
    assert unpack(path, "one") == 9
    assert is_unpacked(path, "one") and not is_unpacked(path, "two")
    assert sorted(item.name for item in tmp_path.iterdir()) == [".images.zip.unpacked", "images", "images.zip"]
    assert {item.read_bytes() for item in (tmp_path / "images").iterdir()} == {IMAGE}


@pytest.mark.parametrize("name", ["images.zip", "images.tar", "images.tgz"])
def test_a_broken_archive_is_named(tmp_path, name):
    (tmp_path / name).write_bytes(archive({"1.jpg": IMAGE}, name.partition(".")[2])[:-2000])
    with pytest.raises(UnpackError, match=f"{name} cannot be unpacked: "):
        unpack(tmp_path / name, "checksum")
    assert [item.name for item in tmp_path.iterdir()] == [name]
