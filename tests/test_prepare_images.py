"""Pictures reach the disk byte for byte, under the right extension, once, and never on top of another."""

import base64
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
from benchmark_rows import picture, prepared, upstream
from PIL import Image

from dmlr.benchmarks.images import ImageFiles, ImageStore, image_bytes
from dmlr.benchmarks.schema import BadRow

KINDS = [
    ("RGB", "PNG", "png"),
    ("RGBA", "PNG", "png"),
    ("P", "PNG", "png"),
    ("I;16", "PNG", "png"),
    ("CMYK", "JPEG", "jpg"),
    ("L", "JPEG", "jpg"),
    ("RGB", "WEBP", "webp"),
    ("P", "GIF", "gif"),
    ("RGB", "BMP", "bmp"),
    ("CMYK", "TIFF", "tif"),
]


def test_every_kind_of_picture_keeps_its_bytes(tmp_path: Path) -> None:
    contents = [picture(5, mode, format) for mode, format, _ in KINDS]
    cells = [{"bytes": content, "path": "a.png"} for content in contents]
    rows = prepared(
        tmp_path,
        "m3cot",
        [
            upstream("m3cot", id=f"r/{i}", image_id=f"n/{i}", answer="A", image=cell)
            for i, cell in enumerate(cells)
        ],
    )
    for row, content, (mode, _, extension) in zip(rows, contents, KINDS, strict=True):
        path = tmp_path / "data" / row["image_path"]
        assert path.suffix == f".{extension}"
        assert path.read_bytes() == content
        with Image.open(path) as image:
            assert image.mode.startswith(mode[0])
            image.convert("RGB")


def test_the_same_bytes_are_stored_once_and_another_name_is_found_for_other_bytes(tmp_path: Path) -> None:
    store = ImageStore(tmp_path / "pictures", tmp_path)
    first = store.add("a/b", picture(1))
    assert first == "pictures/a_b.png"
    assert store.add("elsewhere", picture(1)) == first
    second = store.add("a/b", picture(2))
    assert second != first
    assert (tmp_path / first).read_bytes() == picture(1)
    assert (tmp_path / second).read_bytes() == picture(2)
    assert (store.written, store.reused) == (2, 1)


@pytest.mark.parametrize("name", ["../../outside", "/etc/x", "...", "", "a" * 400])
def test_names_stay_inside_the_folder(tmp_path: Path, name: str) -> None:
    path = tmp_path / ImageStore(tmp_path / "pictures", tmp_path).add(name, picture(1))
    assert path.parent == tmp_path / "pictures"


def test_files_outside_the_roots_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(picture(1))
    (tmp_path / "root").mkdir()
    files = ImageFiles([tmp_path / "root"])
    assert files.read("../secret.png") is None
    assert files.read(str(tmp_path / "secret.png")) is None


def test_cells_of_every_form(tmp_path: Path) -> None:
    content = picture(3)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/x.png").write_bytes(content)
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr("deep/folder/y.png", content)
    files = ImageFiles([tmp_path], [tmp_path / "all.zip"])
    encoded = base64.b64encode(content).decode()
    cells: list[Any] = [content, {"bytes": content, "path": None}, {"bytes": None, "path": "./sub/x.png"}]
    cells += ["sub/x.png", "y.png", "some/y.png", encoded, f"data:image/png;base64,{encoded}"]
    assert all(image_bytes(cell, files) == content for cell in cells)
    for nothing in (None, "", b"", {"bytes": None, "path": None}):
        with pytest.raises(BadRow, match="image is missing"):
            image_bytes(nothing, files)
    with pytest.raises(BadRow, match="image file is missing"):
        image_bytes("sub/none.png", files)


@pytest.mark.parametrize("content", [b"<html>404</html>", picture(1)[:12], b"\xff\xd8\xff broken"])
def test_what_is_no_picture_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(BadRow, match="image bytes"):
        ImageStore(tmp_path / "pictures", tmp_path).add("a", content)
    assert not (tmp_path / "pictures").exists()


def test_a_second_run_writes_no_picture_again(tmp_path: Path) -> None:
    rows = [upstream("m3cot", id=str(i), image_id=str(i), answer="A") for i in range(3)]
    prepared(tmp_path, "m3cot", rows[:2])
    paths = sorted((tmp_path / "data/m3cot/test").iterdir())
    before = [path.stat().st_mtime_ns for path in paths]
    again = prepared(tmp_path, "m3cot", rows)
    assert [path.stat().st_mtime_ns for path in paths] == before
    assert len(again) == len(list((tmp_path / "data/m3cot/test").iterdir())) == 3
    assert json.loads((tmp_path / "data/m3cot.json").read_text()) == again
