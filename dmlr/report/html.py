"""The HTML report: one file that opens from disk, with nothing fetched from anywhere.

Model output is text that nobody vouches for: Jinja escapes everything, and the page forbids all scripts and
styles but its own two by their hash (Content-Security-Policy). Per-sample sections stand in inert
`<template>` elements and are built when they are opened, so that a thousand samples stay quick; maps travel
as bytes, not as pictures.
"""

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from matplotlib import colormaps

from dmlr import __version__
from dmlr.files import read_json, write_bytes_atomic
from dmlr.report import summary_charts, tables
from dmlr.report.compare import compare, summarise
from dmlr.report.curves import legend, sparkline
from dmlr.report.heatmaps import StepMaps, load_maps
from dmlr.report.pictures import Pictures
from dmlr.report.runs import Run, dataset_rows, image_file, load_analysis, load_trace, outcome

TEMPLATES = Path(__file__).parent / "templates"
IMAGE_SIDE = 420  # pixels of the longer side of an embedded image
_SIZE_MARK = "@@FILE-SIZE@@"


@dataclass(frozen=True)
class ReportInfo:
    """What was written."""

    path: Path
    size: int  # bytes
    samples: int
    notes: list[str]  # what is missing from the page and why


def write_report(runs: Sequence[Run], path: Path, image_side: int = IMAGE_SIDE) -> ReportInfo:
    """Write the report of `runs` to `path` and say what it holds; `image_side` 0 leaves the images out.

    Runs must cover the same rows of the same dataset, or `UserError`; a single run is fine.
    """
    comparison = compare(runs)
    pictures = Pictures(image_side)
    rows = dataset_rows(runs[0])
    traces = [{i: load_trace(run, i) for i in run.entries} for run in runs]
    dependency = [load_analysis(run, "visual_dependency") for run in runs]
    samples = [
        _sample(index, runs, traces, dependency, rows.get(index, {}), pictures, image_side)
        for index in runs[0].entries
    ]
    notes = list(pictures.unreadable[:5])
    if len(pictures.unreadable) > 5:
        notes.append(f"... and {len(pictures.unreadable) - 5} more images that cannot be read")
    missing = sum(1 for s in samples if s["image"] is None and s["image_path"])
    if missing and image_side:
        notes.append(f"{missing} samples are shown without their image: the file is not on this machine")
    if not rows:
        notes.append("the dataset file is not on this machine: no evidence boxes, no categories")
    style, script = _asset("report.css"), _asset("report.js")
    charts = summary_charts.charts(runs, traces)
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(
        number=tables.number, interval=tables.interval, p_text=tables.p_text, metric=_metric_text
    )
    text = environment.get_template("report.html").render(
        title=runs[0].name if len(runs) == 1 else f"{len(runs)} runs",
        version=__version__,
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        file_size=_SIZE_MARK,
        style=Markup(style),
        script=Markup(script),
        style_hash=_hash(style),
        script_hash=_hash(script),
        comparison=comparison,
        summaries=[summarise(run) for run in runs],
        settings=_settings(runs),
        charts=charts,
        legend=legend([(run.name, i) for i, run in enumerate(runs)]),
        analyses=[_analysis_summary(run) for run in runs],
        samples=samples,
        run_names=[run.name for run in runs],
        pictures=pictures.uris,
        palette=_palette(),
        notes=notes,
    )
    content = text.replace(_SIZE_MARK, _megabytes(len(text.encode()))).encode()
    write_bytes_atomic(path, content)
    return ReportInfo(path, len(content), len(samples), notes)


def _asset(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


def _palette() -> list[list[int]]:
    """The 256 colours of the heatmaps, the ones that the PNG files use."""
    return (colormaps["inferno"](np.linspace(0, 1, 256))[:, :3] * 255).astype(int).tolist()


def _metric_text(value: Any) -> str:
    """Value of an official metric: numbers with three digits, nested ones as compact JSON."""
    if isinstance(value, float):
        return f"{value:.3f}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _settings(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Every recorded flag with its value per run; `differs` marks those that are not the same everywhere."""
    names = dict.fromkeys(name for run in runs for name in run.args)
    found = []
    for name in names:
        values = ["not recorded" if name not in run.args else _metric_text(run.args[name]) for run in runs]
        found.append({"name": name, "values": values, "differs": len(set(values)) > 1})
    return sorted(found, key=lambda s: not s["differs"])


def _analysis_summary(run: Run) -> dict[str, Any]:
    """Lines (label, text) of every analysis found beside the run."""
    lines = []
    for name in ("visual_dependency", "confidence", "evidence"):
        file = run.folder / "analysis" / f"{name}.json"
        if file.is_file():
            lines += [(line["label"], line["text"]) for line in read_json(file, "analysis").get("lines", [])]
    return {"name": run.name, "lines": lines}


def _sample(
    index: int,
    runs: Sequence[Run],
    traces: Sequence[dict[int, list]],
    dependency: Sequence[dict[int, dict[str, Any]]],
    row: dict[str, Any],
    pictures: Pictures,
    image_side: int,
) -> dict[str, Any]:
    """Everything that the page shows about one sample."""
    first = runs[0].entries[index]
    outcomes = [outcome(run.entries[index]) for run in runs]
    file = image_file(runs[0], first) if image_side else None
    picture = pictures.add(file) if file else None
    answers = []
    for number, run in enumerate(runs):
        entry = run.entries[index]
        points = [(step.step, step.reward) for step in traces[number][index]]
        if points and entry.get("initial_reward") is not None:
            points.insert(0, (0, entry["initial_reward"]))
        tokens = dependency[number].get(index)
        size = pictures.sizes[picture] if picture is not None else None
        answers.append(
            {
                "run": run.name,
                "entry": entry,
                "outcome": outcomes[number],
                "gain": _gain(entry),
                "curve": sparkline(points, entry.get("best_reward_step"), "reward over the steps"),
                "maps": _maps(run, entry, row, size) if picture is not None else None,
                "tokens": _coloured(tokens) if tokens else [],
                "mean_dependency": tokens.get("mean") if tokens else None,
            }
        )
    return {
        "index": index,
        "question": str(first.get("question") or ""),
        "image_path": first.get("image_path"),
        "image": picture,
        "category": str(row.get("category") or row.get("group") or ""),
        "gold": str(first.get("ground_truth_text") or first.get("ground_truth") or ""),
        "outcomes": outcomes,
        "flipped": len({o for o in outcomes if o in ("correct", "wrong")}) > 1,
        "answers": answers,
    }


def _gain(entry: dict[str, Any]) -> float | None:
    if entry.get("best_reward") is None or entry.get("initial_reward") is None:
        return None
    return float(entry["best_reward"]) - float(entry["initial_reward"])


def _coloured(tokens: dict[str, Any]) -> list[tuple[str, str, str]]:
    """(text, CSS class, tooltip) per token: nine classes from strongly negative (t0) over none (t4) to
    positive.
    """
    found = []
    for text, value in zip(tokens["tokens"], tokens["s"]):
        level = 4 + int(np.clip(np.round(np.sign(value) * np.log2(1 + abs(value)) * 1.5), -4, 4))
        found.append((text, f"t{level}", f"S = {value:+.2f}"))
    return found


def viz_folder(run: Run) -> Path:
    """Where `--visual_token_viz` of that run has put its maps (a moved run is looked for in its own
    folder).
    """
    own = run.folder / "visual_token_viz"
    named = run.args.get("visual_token_viz_dir")
    return Path(named) if named and not own.is_dir() else own


def _maps(
    run: Run, entry: dict[str, Any], row: dict[str, Any], size: tuple[int, int] | None
) -> dict[str, Any] | None:
    """What the page draws over the image: maps as bytes, patches, evidence; None when there is nothing to
    draw.
    """
    maps = load_maps(viz_folder(run), entry["data_idx"])
    if maps is not None:
        return _packed(maps)
    evidence = row.get("evidence") or []
    patches = entry.get("patches") or []
    grid = entry.get("image_grid")
    if size is None or not (evidence or (grid and any(patches))):
        return None
    drawn = [patches] if grid else []
    return {
        "grid": grid or [1, 1],
        "size": list(size),
        "steps": 0,
        "thoughts": len(patches),
        "top": 0,
        "data": "",
        "patches": drawn,
        "evidence": evidence,
    }


def _packed(maps: StepMaps) -> dict[str, Any]:
    """Maps as one byte per image token, square-root scaled like the PNG files (`steps` x `thoughts` x
    tokens).
    """
    top = float(maps.attention.max())
    level = np.sqrt(np.clip(maps.attention / max(top, 1e-12), 0, 1))
    steps, thoughts = maps.attention.shape[:2]
    return {
        "grid": list(maps.grid),
        "size": list(maps.image_size),
        "steps": steps,
        "thoughts": thoughts,
        "top": round(top, 6),
        "data": base64.b64encode(np.round(level * 255).astype(np.uint8).tobytes()).decode(),
        "patches": maps.patches,
        "evidence": maps.evidence,
    }


def info_text(info: ReportInfo) -> str:
    """One line about the written file, and its notes."""
    lines = [f"{info.path}: {info.samples} samples, {_megabytes(info.size)}"]
    return "\n".join(lines + [f"note: {note}" for note in info.notes])
