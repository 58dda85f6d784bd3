"""Images of the report: scaled down once, encoded as data URIs, each file only once whatever uses it."""

import base64
import io
import warnings
from pathlib import Path

from PIL import Image

from dmlr.report.heatmaps import panel_size


class Pictures:
    """Collects the pictures of a report. `uris[key]` is the data URI that `add` returned the key of."""

    def __init__(self, longest: int) -> None:
        self.longest = longest  # pixels of the longer side; smaller images stay as they are
        self.uris: list[str] = []
        self.sizes: list[tuple[int, int]] = []  # (width, height) of the originals
        self._keys: dict[Path, int | None] = {}
        self.unreadable: list[str] = []

    def add(self, file: Path) -> int | None:
        """Key of the picture in `file`; None (and a line in `unreadable`) when it cannot be read."""
        place = file.resolve()
        if place not in self._keys:
            self._keys[place] = self._encode(file)
        return self._keys[place]

    def _encode(self, file: Path) -> int | None:
        try:
            with warnings.catch_warnings(), Image.open(file) as opened:
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)
                size = opened.size
                if max(size) > self.longest:
                    target = panel_size(size, self.longest)
                    opened.draft("RGB", target)
                    image = opened.convert("RGB").resize(target, Image.Resampling.LANCZOS)
                else:
                    image = opened.convert("RGB")
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            self.unreadable.append(f"{file}: {' '.join(str(error).split())}")
            return None
        self.uris.append(smallest_uri(image))
        self.sizes.append(size)
        return len(self.uris) - 1


def smallest_uri(image: Image.Image) -> str:
    """Data URI of an RGB image: PNG for drawings, JPEG for photographs, whichever is smaller."""
    encoded = {}
    for kind, options in (("png", {"optimize": False}), ("jpeg", {"quality": 82})):
        buffer = io.BytesIO()
        image.save(buffer, kind, **options)
        encoded[kind] = buffer.getvalue()
    kind = min(encoded, key=lambda k: len(encoded[k]))
    return f"data:image/{kind};base64,{base64.b64encode(encoded[kind]).decode()}"
