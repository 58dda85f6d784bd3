"""Errors that are the user's to mend: reported all at once, without a traceback, with exit code 2."""

from collections.abc import Sequence


class UserError(Exception):
    """Bad input or a missing resource.

    `problems` holds one line each, saying what is wrong, where, and what to do. The command line prints every
    line and exits with code 2.
    """

    def __init__(self, problems: str | Sequence[str]) -> None:
        self.problems: list[str] = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.problems))
