"""Images for a server are the images of the local path: same sizes, same pixels, whatever their shape and mode."""

import base64
import io
import random

import numpy as np
import pytest
from PIL import Image
from qwen_vl_utils import fetch_image
from qwen_vl_utils.vision_process import smart_resize

from dmlr.resizing import data_url, load_resized, target_size


def test_sizes_are_those_of_the_library():
    """Seeded shapes and limits, among them those where floating point decides about a whole token."""
    draw = random.Random(0)
    for _ in range(20_000):
        width, height = draw.randint(1, 3000), draw.randint(1, 3000)
        least = draw.choice([1, 4, 128, draw.randint(1, 300)])
        most = least + draw.choice([0, 1, 128, draw.randint(0, 500)])
        if max(width, height) > 200 * min(width, height):
            continue
        rows, columns = smart_resize(height, width, 28, least * 784, most * 784)
        if not rows or not columns:
            with pytest.raises(ValueError, match="does not fit"):
                target_size(width, height, least, most)
        else:
            assert target_size(width, height, least, most) == (columns, rows)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "LA", "1", "CMYK"])
@pytest.mark.parametrize("size", [(300, 200), (20, 33), (1500, 900)])
def test_pixels_are_those_of_the_local_path(tmp_path, mode, size):
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 4), dtype=np.uint8)
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    picture = Image.fromarray(noise, "RGBA")
    (picture if mode == "RGBA" else picture.convert("RGB").convert(mode)).save(path)
    theirs = fetch_image({"image": str(path), "min_pixels": 16 * 784, "max_pixels": 64 * 784})
    ours = load_resized(str(path), 16, 64)
    assert ours.mode == theirs.mode
    np.testing.assert_array_equal(np.asarray(ours), np.asarray(theirs))
    sent = Image.open(io.BytesIO(base64.b64decode(data_url(ours).removeprefix("data:image/png;base64,"))))
    np.testing.assert_array_equal(np.asarray(sent), np.asarray(theirs))


def test_a_remote_image_is_fetched(tmp_path, monkeypatch):
    content = io.BytesIO()
    Image.new("RGB", (56, 28), "red").save(content, "PNG")
    asked = []

    def urlopen(address, timeout):
        asked.append(address)
        return io.BytesIO(content.getvalue())

    monkeypatch.setattr("urllib.request.urlopen", urlopen)
    assert load_resized("https://example.org/a.png", 1, 4).size == (56, 28)
    assert asked == ["https://example.org/a.png"]
    monkeypatch.setattr("dmlr.resizing.LARGEST_DOWNLOAD", 10)
    with pytest.raises(OSError, match="larger than 10 bytes"):
        load_resized("https://example.org/a.png", 1, 4)
