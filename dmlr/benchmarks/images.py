"""Picture bytes: out of upstream cells, folders and archives, and onto the disk unchanged."""

import base64
import binascii
import hashlib
import io
import os
import re
import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from dmlr.benchmarks.schema import BadRow

MAX_IMAGE_BYTES = 200_000_000

_SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"\xff\xd8\xff", "jpg"),
    (b"GIF8", "gif"),
    (b"BM", "bmp"),
    (b"II*\x00", "tif"),
    (b"MM\x00*", "tif"),
)


def image_extension(data: bytes) -> str:
    """File extension from the first bytes (png, jpg, gif, bmp, tif, webp). Raises `BadRow` for anything else."""
    for signature, extension in _SIGNATURES:
        if data.startswith(signature):
            return extension
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    raise BadRow("image bytes are of no known format (png, jpg, gif, bmp, tif, webp)")


class ImageFiles:
    """Pictures that upstream rows name instead of holding: in folders, or in the zip archives of a folder."""

    def __init__(self, roots: Sequence[Path], archives: Sequence[Path] = ()) -> None:
        self.roots = [root.resolve() for root in roots]
        self.archives = list(archives)
        self._members: dict[str, list[tuple[zipfile.ZipFile, zipfile.ZipInfo]]] | None = None

    def read(self, name: str) -> bytes | None:
        """Bytes of the picture called `name`, None when there is none.

        The path is tried below each root, then in the archives, whose members may lie in further folders: one that
        ends in the whole path, or the only one with its base name. Nothing outside the roots is read.
        """
        relative = name.removeprefix("./")
        for root in self.roots:
            path = (root / relative).resolve()
            if path.is_relative_to(root) and path.is_file():
                return path.read_bytes()
        members = self._archive_index().get(relative.rsplit("/", 1)[-1], [])
        ending = [member for member in members if f"/{member[1].filename}".endswith(f"/{relative}")]
        if len(members) > 1:
            members = ending
        if not members:
            return None
        archive, info = members[0]
        if info.file_size > MAX_IMAGE_BYTES:
            raise BadRow(f"image {name!r} is larger than {MAX_IMAGE_BYTES} bytes")
        return archive.read(info)

    def _archive_index(self) -> dict[str, list[tuple[zipfile.ZipFile, zipfile.ZipInfo]]]:
        if self._members is None:
            self._members = {}
            for path in self.archives:
                archive = zipfile.ZipFile(path)
                for info in archive.infolist():
                    if not info.is_dir() and "__MACOSX" not in info.filename:
                        self._members.setdefault(info.filename.rsplit("/", 1)[-1], []).append((archive, info))
        return self._members


def image_bytes(cell: Any, files: ImageFiles | None) -> bytes:
    """Bytes of an upstream picture cell.

    `cell`: bytes, a {"bytes", "path"} struct, base64 text (with or without a data: header), or the name of a picture
    in `files`. Raises `BadRow` when there is nothing, or the file is missing.
    """
    if isinstance(cell, dict):
        cell = cell.get("bytes") or cell.get("path")
    if cell is None or cell in (b"", ""):
        raise BadRow("image is missing")
    if isinstance(cell, bytes):
        return cell
    if not isinstance(cell, str):
        raise BadRow(f"image is of type {type(cell).__name__}, bytes or a file name is needed")
    found = files.read(cell) if files and len(cell) < 1024 else None
    if found is not None:
        return found
    text = cell.partition("base64,")[2] if cell.startswith("data:") else cell
    if len(text) > 64 and re.fullmatch(r"[A-Za-z0-9+/=\s]+", text):
        try:
            return base64.b64decode(text, validate=False)
        except binascii.Error:
            raise BadRow("image text is not base64") from None
    raise BadRow("image file is missing")


class ImageStore:
    """Writes pictures below `folder`, each content once, and tells their path relative to `base`.

    A picture keeps its bytes. Its name comes from the upstream id; if that name is taken by other bytes, a piece of
    the content's hash is added, so nothing is ever overwritten and a second run finds everything in place.
    """

    def __init__(self, folder: Path, base: Path) -> None:
        self.folder = folder
        self.base = base
        self.written = 0
        self.reused = 0
        self._paths: dict[bytes, str] = {}

    def add(self, name: str, data: bytes) -> str:
        """Store `data`; returns its path relative to `base`. Raises `BadRow` when PIL cannot open it."""
        digest = hashlib.sha256(data).digest()
        if digest in self._paths:
            self.reused += 1
            return self._paths[digest]
        extension = image_extension(data)
        _check_header(data)
        stem = re.sub(r"[^A-Za-z0-9._-]", "_", name).lstrip(".")[:100] or "image"
        path = self.folder / f"{stem}.{extension}"
        if path.exists() and path.read_bytes() != data:
            path = self.folder / f"{stem}-{digest.hex()[:10]}.{extension}"
        if path.exists():
            self.reused += 1
        else:
            self._write(path, data)
        self._paths[digest] = path.relative_to(self.base).as_posix()
        return self._paths[digest]

    def _write(self, path: Path, data: bytes) -> None:
        # Without fsync, unlike `write_bytes_atomic`: thousands of small files, and a lost one is written again.
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            temporary.write_bytes(data)
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        self.written += 1


def _check_header(data: bytes) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            Image.open(io.BytesIO(data)).close()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise BadRow("image bytes cannot be opened as an image") from error
