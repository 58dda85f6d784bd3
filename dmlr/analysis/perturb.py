"""Spoilt versions of an image for the visual dependency of tokens (paper Eq. 1). Same size, same image
tokens.

Perturb the picture as the model sees it (after resizing): noise added before would be averaged away again.
"""

import numpy as np
from PIL import Image, ImageFilter

KINDS = ("gaussian", "blur", "blank", "shuffle", "swap")


def perturb(
    image: Image.Image, kind: str, strength: float, tile: int, seed: int, other: Image.Image | None = None
) -> Image.Image:
    """The spoilt RGB image, of the same size; `strength` 1 destroys what the kind can destroy.

    - `gaussian`: additive noise, sigma = strength x 255, clipped.
    - `blur`: Gaussian blur with a radius of strength x an eighth of the shorter side.
    - `blank`: mixed with its own mean colour, which has the share `strength` (at most 1).
    - `shuffle`: the share `strength` (at most 1) of its tiles of `tile` x `tile` pixels (image tokens)
    change places:
      colours and textures stay in the picture, layout does not.
    - `swap`: mixed with the `other` image (resized to this one), which has the share `strength` (at most
    1). With 1 this
      is the one kind that stays a natural picture: a model may break down on noise for reasons other than
      missing evidence.

    Raises `ValueError` for another kind, or `swap` without another image.
    """
    rng = np.random.default_rng(seed)
    pixels = np.asarray(image.convert("RGB"), dtype=np.float64)
    if kind == "gaussian":
        spoilt = pixels + rng.normal(0, 255 * strength, pixels.shape)
    elif kind == "blur":
        radius = strength * min(image.size) / 8
        return image.convert("RGB").filter(ImageFilter.GaussianBlur(radius))
    elif kind == "blank":
        share = min(strength, 1.0)
        spoilt = (1 - share) * pixels + share * pixels.mean(axis=(0, 1))
    elif kind == "shuffle":
        return _shuffled(image.convert("RGB"), min(strength, 1.0), tile, rng)
    elif kind == "swap" and other is not None:
        return Image.blend(image.convert("RGB"), other.convert("RGB").resize(image.size), min(strength, 1.0))
    else:
        raise ValueError(f"unknown perturbation {kind!r}, or no other image to swap in")
    return Image.fromarray(np.clip(np.round(spoilt), 0, 255).astype(np.uint8))


def _shuffled(image: Image.Image, share: float, tile: int, rng: np.random.Generator) -> Image.Image:
    corners = [
        (x, y)
        for y in range(0, image.size[1] - tile + 1, tile)
        for x in range(0, image.size[0] - tile + 1, tile)
    ]
    moving = rng.permutation(len(corners))[: round(share * len(corners))]
    targets = np.roll(moving, 1)  # a cycle through them: every chosen tile really moves
    spoilt = image.copy()
    for source, target in zip(moving, targets):
        x, y = corners[source]
        spoilt.paste(image.crop((x, y, x + tile, y + tile)), corners[target])
    return spoilt
