"""Reading and writing files so that a crash never leaves half of one behind."""

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from dmlr.errors import UserError


def write_bytes_atomic(path: Path, content: bytes) -> None:
    """Replace `path` by `content` in one step: a reader sees the old file or the new one, never a part.

    The temporary file lies in the same folder (a rename across file systems is not atomic) and is fsynced first.
    Raises `OSError` when the folder cannot be written; the old file is then untouched.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_json_atomic(path: Path, value: Any, indent: int | None = 2) -> None:
    """Write `value` as UTF-8 JSON (no NaN: it is not JSON) through `write_bytes_atomic`."""
    text = json.dumps(value, ensure_ascii=False, indent=indent, allow_nan=False)
    write_bytes_atomic(path, (text + "\n").encode())


def read_json(path: Path, what: str) -> Any:
    """Parse the JSON file `path`; `what` names it in the error ("dataset", "results file").

    Raises `UserError` in one line when it is missing, unreadable, not UTF-8 or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise UserError(f"{what} {path}: no such file") from None
    except IsADirectoryError:
        raise UserError(f"{what} {path}: is a folder, a JSON file is needed") from None
    except OSError as error:
        raise UserError(f"{what} {path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{what} {path}: not UTF-8 text (byte {error.start})") from None
    except json.JSONDecodeError as error:
        raise UserError(
            f"{what} {path}: not JSON, line {error.lineno} column {error.colno}: {error.msg}"
        ) from None
