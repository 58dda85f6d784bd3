"""Reading an option list out of a prompt, letter by letter and never by splitting on commas."""

import re

_HEADER = re.compile(r"(?:Options|Choices)[ \t]*:[ \t]*\n?")
_STYLES = (r"\({0}\)\s*", r"{0}\.\s+", r"{0}:\s+", r"{0}\)\s+")


def parse_options(prompt: str) -> list[str]:
    """Option texts in letter order, [] when the prompt lists none.

    Understands `A. t`, `(A) t`, `A: t`, `A) t` and their lower-case forms, one per line or in a row, after the last
    "Options:" or "Choices:", or without a header when the letters stand at the beginning of lines. Letters are
    walked from A on: where B stands at a line's beginning only line beginnings separate, otherwise a comma (or for
    bracketed letters a space) before the next letter does. A text may therefore hold commas and other letters.
    """
    headers = list(_HEADER.finditer(prompt))
    bodies = [prompt[headers[-1].end() :]] if headers else []
    first = re.search(r"^[ \t]*(?:\([Aa]\)|A[.:)])[ \t]", prompt, re.MULTILINE)
    if first and not headers:
        bodies.append(prompt[first.start() :])
    for body in bodies:
        for style in _STYLES:
            for letters in ("ABCDEFGHIJ", "abcdefghij"):
                options = _walk(body, style, letters)
                if len(options) >= 2:
                    return options
    return []


def _walk(body: str, style: str, letters: str) -> list[str]:
    first = re.match(r"\s*" + style.format(letters[0]), body)
    if not first:
        return []
    on_lines = re.search(r"\n[ \t]*" + style.format(letters[1]), body) is not None
    if on_lines:
        separator = r"\n[ \t]*"
    else:
        separator = r"[,;]?\s+" if style.startswith(r"\(") else r"[,;]\s*"
    options = []
    begin = first.end()
    for letter in letters[1:]:
        following = re.compile(separator + style.format(letter)).search(body, begin)
        if not following:
            break
        options.append(body[begin : following.start()].strip())
        begin = following.end()
    return [*options, body[begin:].strip()]
