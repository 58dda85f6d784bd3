"""What every client of an OpenAI-compatible server shares: failures in one line, and a key that is in none of them."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

if TYPE_CHECKING:
    import openai

DUMMY_KEY = "none"  # local servers take any key, the client insists on one


class EndpointFailure(Exception):
    """Why a request brought nothing, in one line.

    `fatal`: every other request would fail in the same way (key, model, address). `unreachable`: the server did not
    answer or was in trouble itself, so that it may be gone.
    """

    def __init__(self, reason: str, fatal: bool = False, unreachable: bool = False) -> None:
        super().__init__(reason)
        self.fatal = fatal
        self.unreachable = unreachable


def is_key(text: str) -> bool:
    """Whether `text` can travel in an HTTP header as a key (empty: none)."""
    return text.isprintable() and text.isascii()


def without_secrets(base_url: str) -> str:
    """The URL without credentials, query and trailing slash, for messages."""
    parts = urlsplit(base_url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path.rstrip("/"), "", ""))


def redact(text: str, key: str) -> str:
    """`text` without the key: servers echo it in their messages."""
    if key == DUMMY_KEY:
        return text
    text = text.replace(key, "[key]")
    # OpenAI's own message shows both ends of a wrong key
    return re.sub(re.escape(key[:8]) + r"\S*", "[key]", text) if len(key) >= 16 else text


def describe_status(error: "openai.APIStatusError") -> str:
    """Status and message of an error response, at most 200 characters of it."""
    body = error.body if isinstance(error.body, dict) else {}
    detail = body.get("message") or body.get("detail")  # OpenAI's name, FastAPI's name
    return f"HTTP {error.status_code}: {' '.join(str(detail or error.message).split())[:200]}"


@contextmanager
def failures(timeout: float, attempts: int) -> Iterator[None]:
    """Turn what the client raises inside into `EndpointFailure`; 400 and 422 pass, the caller may know a way out.

    `timeout` is in seconds per attempt.
    """
    import openai

    try:
        yield
    except (openai.BadRequestError, openai.UnprocessableEntityError):
        raise
    except (openai.AuthenticationError, openai.PermissionDeniedError, openai.NotFoundError) as error:
        raise EndpointFailure(describe_status(error), fatal=True) from None
    except openai.APITimeoutError:
        reason = f"no answer within {timeout:g} s, {attempts} attempts"
        raise EndpointFailure(reason, unreachable=True) from None
    except openai.APIConnectionError as error:
        raise EndpointFailure(f"connection failed ({error.__cause__ or error})", unreachable=True) from None
    except openai.APIStatusError as error:
        raise EndpointFailure(describe_status(error), unreachable=error.status_code >= 500) from None
    except (openai.OpenAIError, ValueError) as error:  # a body that is not what the protocol says
        raise EndpointFailure(f"the response cannot be read ({type(error).__name__})") from None
