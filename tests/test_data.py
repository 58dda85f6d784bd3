"""Datasets: name resolution, every bad row named at once, images checked before a model loads."""

import json
import struct
import zlib

import pytest
from PIL import Image

from dmlr.config import RunConfig
from dmlr.data import load_dataset, single_question
from dmlr.errors import UserError


def write(folder, rows, name="set.json"):
    (folder / name).write_text(rows if isinstance(rows, str) else json.dumps(rows))
    return str(folder / name)


def png_header(width, height):
    """A PNG that promises `width` x `height` pixels and holds none."""
    body = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [b"IHDR" + body, b"IDAT" + zlib.compress(b""), b"IEND"]
    packed = [struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def picture(path, size=(60, 40)):
    Image.new("RGB", size, "red").save(path)
    return path.name


def row(**changes):
    return {"prompt": "How many?", "solution": "2", "image_path": None, "idx": 7} | changes


def test_slice_is_clipped_and_indices_are_global(tmp_path):
    path = write(tmp_path, [row(solution=n) for n in range(5)])
    data = load_dataset(RunConfig(dataset=path, start_data_idx=3, end_data_idx=100))
    assert [s.data_idx for s in data.samples] == [3, 4]
    assert [s.solution for s in data.samples] == ["3", "4"]
    assert len(data.rows) == 5


def test_numeric_zero_is_a_solution(tmp_path):
    path = write(tmp_path, [row(solution=0)])
    assert load_dataset(RunConfig(dataset=path)).samples[0].solution == "0"


def test_name_is_found_under_data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data" / "two").mkdir(parents=True)
    write(tmp_path / "data", [row()], "one.json")
    write(tmp_path / "data" / "two", [row()], "two.json")
    assert load_dataset(RunConfig(dataset="one")).path.name == "one.json"
    assert load_dataset(RunConfig(dataset="two")).path.name == "two.json"
    with pytest.raises(UserError, match="no such file"):
        load_dataset(RunConfig(dataset="three"))


def test_image_beside_the_dataset_wins_over_the_working_directory(tmp_path, monkeypatch):
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    picture(there / "a.png")
    picture(here / "a.png")
    picture(here / "b.png", (10, 10))
    monkeypatch.chdir(here)
    path = write(there, [row(image_path="a.png"), row(image_path="b.png")])
    data = load_dataset(RunConfig(dataset=path))
    assert [s.image for s in data.samples] == [str(there / "a.png"), str(here / "b.png")]
    assert data.sizes == {0: (60, 40), 1: (10, 10)}


@pytest.mark.parametrize(
    ("content", "part"),
    [("{", "not JSON, line 1"), ("{}", "must be a JSON list"), ("[]", "has no rows"), ("\xff", "not UTF-8")],
)
def test_unusable_files(tmp_path, content, part):
    path = tmp_path / "d.json"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(UserError, match=part):
        load_dataset(RunConfig(dataset=str(path)))


def bad_rows(folder):
    picture(folder / "good.png")
    (folder / "text.png").write_text("no image")
    (folder / "cut.jpg").write_bytes(jpeg(folder)[:-2000])
    (folder / "bomb.png").write_bytes(png_header(50_000, 50_000))
    (folder / "half.png").write_bytes(png_header(100, 100))
    picture(folder / "long.png", (3000, 10))
    cases = {
        1: (["row"], "must be an object"),
        2: ({"solution": "x"}, 'no "prompt"'),
        3: ({"prompt": "x"}, 'no "solution"'),
        4: (row(solution=" "), "solution is empty"),
        5: (row(solution=None), "solution is empty"),
        6: (row(prompt=""), "prompt is empty"),
        7: (row(prompt="a <|image_pad|> b"), "control token <|image_pad|>"),
        8: (row(image_path="none.png"), "no such file"),
        9: (row(image_path="text.png"), "not an image"),
        10: (row(image_path="cut.jpg"), "broken"),
        11: (row(image_path="bomb.png"), "too many pixels"),
        12: (row(image_path="half.png"), "broken"),
        13: (row(image_path="long.png"), "longer than 200:1"),
        14: (row(image_path="https://example.org/a.png"), "--allow_remote_images"),
        15: ({"prompt": "x", "solution": "y", "image": "good.png"}, 'has "image" but no "image_path"'),
        16: (row(solution=["a"]), "text or a number"),
        17: (row(image_path=3), "text or null"),
        18: (row(choices="A, B"), "choices must be a list"),
    }
    rows = [row(image_path="good.png"), *(case for case, _ in cases.values())]
    return rows, {index: part for index, (_, part) in cases.items()}


def jpeg(folder):
    Image.effect_noise((200, 200), 60).convert("RGB").save(folder / "whole.jpg")
    return (folder / "whole.jpg").read_bytes()


def test_all_bad_rows_are_named_at_once(tmp_path):
    rows, parts = bad_rows(tmp_path)
    with pytest.raises(UserError) as caught:
        load_dataset(RunConfig(dataset=write(tmp_path, rows)))
    lines = caught.value.problems
    assert len(lines) == len(parts) + 1
    for line, (index, part) in zip(lines, parts.items()):
        assert f"row {index}:" in line
        assert part in line
        assert "\n" not in line


def test_bad_rows_can_become_failed_samples(tmp_path):
    rows, parts = bad_rows(tmp_path)
    data = load_dataset(RunConfig(dataset=write(tmp_path, rows), skip_bad_rows=True))
    assert [s.data_idx for s in data.samples] == list(range(len(rows)))
    assert {s.data_idx for s in data.samples if s.problem} == set(parts)
    assert all(isinstance(r, dict) for r in data.rows)


def test_bombs_are_refused_even_where_pillow_lets_them_pass(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)  # as some libraries set it for the whole process
    (tmp_path / "bomb.png").write_bytes(png_header(50_000, 50_000))
    with pytest.raises(UserError, match="50000 x 50000 pixels, more than"):
        load_dataset(RunConfig(dataset=write(tmp_path, [row(image_path="bomb.png")])))


def test_only_the_slice_is_checked(tmp_path):
    rows, _ = bad_rows(tmp_path)
    assert len(load_dataset(RunConfig(dataset=write(tmp_path, rows), end_data_idx=1)).samples) == 1


def test_single_question(tmp_path):
    name = picture(tmp_path / "a.png")
    data = single_question("what?", str(tmp_path / name), False)
    assert data.samples[0].image == str(tmp_path / name)
    assert data.samples[0].solution == ""
    with pytest.raises(UserError, match="no such file"):
        single_question("what?", str(tmp_path / "none.png"), False)
