r"""Files of the published DMLR repository (`data/NAME.json`), turned back into upstream rows.

They hold only prompt, solution and picture path, in six layouts and with damage of several kinds. Each reader here
undoes its layout and hands an upstream row to the benchmark's own `convert`, so that a migrated file looks like a
freshly prepared one. What the prompt proves is repaired (an option's text from its letter); what it does not is
reported row by row and never guessed:

- scienceqa: an empty solution (gold lost; the converter of that repository dropped index 0);
- math_vista: 25 rows whose gold letter was read off the first character of the answer text;
- math_vision: option lists cut at their inner commas, unless brackets show where the pieces belong.

What the published files lost for all rows (ScienceQA's context, HallusionBench's question ids) is named in a note or,
where the order of rows still tells it, restored.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dmlr.benchmarks.options import parse_options
from dmlr.benchmarks.schema import LETTERS, BadRow, boxed_contents
from dmlr.errors import UserError
from dmlr.verifier.options import split_letter

PUBLISHED_NAMES = {"mathvista": "math_vista", "mathvision": "math_vision"}

# MathVista problems (pid) whose published gold is another option than the authors'.
_MATHVISTA_WRONG = (
    "15 46 76 80 301 302 308 312 370 396 404 418 431 460 476 661 682 690 756 771 807 881 896 932 954"
)

# Where the picture's file name is the upstream id: a row that cannot be read is still reported by it.
_ID_COLUMNS = {"mathvista": ("pid",), "mathvision": ("id",)}

_QUESTION_MARK = "\\n Question: "
_OPTIONS_MARK = "\\n Options: "


@dataclass
class Published:
    """Upstream rows of a published file; `problems` by row position, `notes` about the file as a whole."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    problems: dict[int, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def published_names(name: str) -> list[str]:
    """File names (without .json) under which a benchmark may lie: the published one first, then our own."""
    return [PUBLISHED_NAMES[name], name] if name in PUBLISHED_NAMES else [name]


def is_published(content: Any) -> bool:
    """True for a list of rows in published form: prompt, solution and picture path, none of our answer fields."""
    if not isinstance(content, list) or not content or not isinstance(content[0], dict):
        return False
    first = content[0]
    return {"prompt", "solution", "image_path"} <= set(first) and "benchmark" not in first


def published_rows(name: str, content: list[dict[str, Any]]) -> Published:
    """Upstream rows of the published file of benchmark `name`. Raises `UserError` when there is no such file."""
    readers: dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
        "scienceqa": _scienceqa,
        "mathvista": _mathvista,
        "mathvision": _mathvision,
        "mmstar": _mmstar,
        "mmvp": _mmvp,
        "hallusion": _hallusion,
    }
    if name not in readers:
        raise UserError(
            f"{name}: the published repository has no usable file of it; prepare it from its source"
        )
    result = Published()
    for position, row in enumerate(content):
        try:
            fields = readers[name](row)
        except BadRow as problem:
            result.problems[position] = str(problem)
            fields = dict.fromkeys(_ID_COLUMNS.get(name, ()), _file_stem(row))
        result.rows.append({**fields, "image": row.get("image_path")})
    if name == "hallusion":
        _number_questions(result.rows)
    if name == "scienceqa":
        result.notes.append(
            "the published file dropped the context (hint) of every question; only the source has it"
        )
    return result


def _file_stem(row: Mapping[str, Any]) -> str:
    return str(row["image_path"]).rsplit("/", 1)[-1].rsplit(".", 1)[0]


def _gold_letter(solution: str) -> str:
    """Letter of "C. text", "C: text", "(c) text", "C" or a boxed letter; "" when there is none."""
    gold = split_letter(solution)
    return gold[0] if gold else ""


def _scienceqa(row: Mapping[str, Any]) -> dict[str, Any]:
    question = row["prompt"].rpartition("\n\nOptions:\n")[0]
    if not str(row["solution"]).strip():
        raise BadRow("gold is empty in the published file and its prompt does not tell it")
    choices, letter = parse_options(row["prompt"]), _gold_letter(row["solution"])
    fields = dict.fromkeys(("hint", "lecture", "solution"), "")
    return {
        **fields,
        "question": question,
        "choices": choices,
        "answer": LETTERS.index(letter) if letter else None,
    }


def _mathvista(row: Mapping[str, Any]) -> dict[str, Any]:
    pid, prompt = _file_stem(row), row["prompt"]
    if pid in _MATHVISTA_WRONG.split():
        raise BadRow(
            "gold is known to be another option than the authors' and the prompt does not tell which"
        )
    hint = prompt.partition("\n")[0]
    unit = re.search(r"\(Unit: ([^()]*)\)$", prompt.partition("\nChoices:")[0])
    fields = {
        "pid": pid,
        "query": prompt,
        "choices": None,
        "unit": unit.group(1) if unit else None,
        "precision": None,
        "metadata": None,
        "question_type": "free_form",
        "answer": row["solution"],
    }
    if "option letter" in hint:
        choices, letter = parse_options(prompt), _gold_letter(row["solution"])
        if not letter or LETTERS.index(letter) >= len(choices):
            raise BadRow("gold names no option of the prompt")
        text = choices[LETTERS.index(letter)]
        return fields | {
            "question_type": "multi_choice",
            "answer_type": "text",
            "choices": choices,
            "answer": text,
        }
    if "floating-point" in hint:
        precision = {"one": 1.0, "two": 2.0}.get(hint.partition("number with ")[2].partition(" ")[0])
        return fields | {"answer_type": "float", "precision": precision}
    return fields | {"answer_type": "list" if "Python list" in hint else "integer"}


def _mathvision(row: Mapping[str, Any]) -> dict[str, Any]:
    text = row["prompt"].partition(_QUESTION_MARK)[2]
    question, mark, listed = text.rpartition(_OPTIONS_MARK) if _OPTIONS_MARK in text else (text, "", "")
    fields = {"id": _file_stem(row), "question": question, "level": None, "subject": None, "options": []}
    if not mark:
        boxes = boxed_contents(row["solution"])
        return fields | {"answer": boxes[0] if boxes else row["solution"]}
    options = join_cut_options(parse_options("Options: " + listed), 5)
    if len(options) != 5:
        raise BadRow("the option list was cut at its inner commas and cannot be put together again")
    return fields | {"options": options, "answer": _gold_letter(row["solution"])}


def join_cut_options(pieces: list[str], count: int) -> list[str]:
    """Put pieces of a list cut at commas together where open brackets prove it; unchanged when that gives not `count`.

    ["(-6", "0)", "(2", "0)"] with count 2 becomes ["(-6,0)", "(2,0)"]; ["1", "30", "1", "35"] stays as it is.
    """
    if len(pieces) == count:
        return pieces
    joined: list[str] = []
    depth = 0
    for piece in pieces:
        if depth > 0:
            joined[-1] += f",{piece}"
        else:
            joined.append(piece)
            depth = 0
        depth += sum(piece.count(mark) for mark in "([{") - sum(piece.count(mark) for mark in ")]}")
    return joined if len(joined) == count else pieces


def _mmstar(row: Mapping[str, Any]) -> dict[str, Any]:
    fields = {"index": _file_stem(row), "category": None, "l2_category": None}
    return fields | {"question": row["prompt"], "answer": _gold_letter(row["solution"])}


def _mmvp(row: Mapping[str, Any]) -> dict[str, Any]:
    question, _, options = row["prompt"].partition(_QUESTION_MARK)[2].rpartition("\nOptions:")
    return {
        "Index": _file_stem(row),
        "Question": question.strip(),
        "Options": options.strip(),
        "Correct Answer": row["solution"],
    }


def _hallusion(row: Mapping[str, Any]) -> dict[str, Any]:
    path = re.search(r"(V[DS])/(\w+)/(\d+)_(\d+)\.\w+$", row["image_path"])
    if not path:
        raise BadRow("the picture's path does not tell set and figure")
    answer = (boxed_contents(row["solution"]) or [""])[0]
    return {
        **dict(zip(("category", "subcategory", "set_id", "figure_id"), path.groups())),
        "question": row["prompt"].partition(_QUESTION_MARK)[2].strip(),
        "gt_answer": {"Yes": "1", "No": "0"}.get(answer),
    }


def _number_questions(rows: list[dict[str, Any]]) -> None:
    """Restore question ids: within a figure the published file lists its questions in their order."""
    asked: dict[tuple[Any, ...], int] = {}
    for row in rows:
        figure = tuple(row.get(key) for key in ("category", "subcategory", "set_id", "figure_id"))
        row["question_id"] = str(asked.get(figure, 0))
        asked[figure] = asked.get(figure, 0) + 1
