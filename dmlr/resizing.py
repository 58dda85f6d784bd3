"""Images at the size that the model sees, without torch: what `qwen_vl_utils.fetch_image` makes of them.

That library imports torch and torchvision, which a client that only sends requests has no use for. A test holds this
module to it, pixel by pixel.
"""

import base64
import io
import math
import urllib.request

from PIL import Image

SIDE = 28  # pixels of an image token of Qwen2.5-VL: 14 per vision patch, patches merged two by two
LARGEST_DOWNLOAD = 200_000_000  # bytes
DOWNLOAD_SECONDS = 60.0


def target_size(width: int, height: int, min_tokens: int, max_tokens: int) -> tuple[int, int]:
    """(width, height) in pixels, multiples of `SIDE`, nearest to the image within the limits in image tokens.

    The proportions are kept as far as multiples allow. What is rounded into the limits keeps its rounded size; what
    is too large is shrunk and rounded down, what is too small enlarged and rounded up. (Where the exact result is a
    whole number, floating point decides: the order of the operations matters.)
    """
    columns, rows = (max(1, round(side / SIDE)) for side in (width, height))
    area = width * height
    if columns * rows > max_tokens:
        shrink = math.sqrt(area / (max_tokens * SIDE**2))
        columns, rows = (math.floor(side / shrink / SIDE) for side in (width, height))
    elif columns * rows < min_tokens:
        enlarge = math.sqrt(min_tokens * SIDE**2 / area)
        columns, rows = (math.ceil(side * enlarge / SIDE) for side in (width, height))
    if not columns or not rows:
        raise ValueError(f"an image of {width} x {height} pixels does not fit into {max_tokens} image tokens")
    return columns * SIDE, rows * SIDE


def load_resized(source: str, min_tokens: int, max_tokens: int) -> Image.Image:
    """The image at path or http(s) address `source`, RGB, resized to `target_size`; transparency becomes white.

    Raises `OSError` when it cannot be had and `ValueError` when it does not fit.
    """
    with Image.open(_download(source) if source.lower().startswith("http") else source) as opened:
        image = _opaque(opened)
    return image.resize(target_size(*image.size, min_tokens, max_tokens))


def data_url(image: Image.Image) -> str:
    """The image as a `data:` address, as PNG: no pixel changes on the way."""
    content = io.BytesIO()
    image.save(
        content, "PNG", compress_level=1
    )  # a fast level: the image is small and crosses a local network
    return "data:image/png;base64," + base64.b64encode(content.getvalue()).decode("ascii")


def _opaque(image: Image.Image) -> Image.Image:
    if image.mode != "RGBA":
        return image.convert("RGB")
    white = Image.new("RGB", image.size, "white")
    white.paste(image, mask=image.getchannel("A"))
    return white


def _download(address: str) -> io.BytesIO:
    with urllib.request.urlopen(address, timeout=DOWNLOAD_SECONDS) as response:
        content = response.read(LARGEST_DOWNLOAD + 1)
    if len(content) > LARGEST_DOWNLOAD:
        raise OSError(f"image {address}: larger than {LARGEST_DOWNLOAD} bytes")
    return io.BytesIO(content)
