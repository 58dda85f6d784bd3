"""Do the thoughts look where the answer is? Patches and attention of a run against the evidence boxes of
its dataset.

Needs no model: patches and grids are in `results.json`, attention in the maps of `--visual_token_viz`.
Chance is the share of the image that the boxes cover; luck is what blindly drawn patches reach; a run with
`--patch_choice random` can be given as a control. Ours.
"""

from typing import Any

import numpy as np

from dmlr.errors import UserError
from dmlr.report.evidence import attention_share, evidence_cover, expected_share, lift, patch_evidence
from dmlr.report.heatmaps import load_maps
from dmlr.report.html import viz_folder
from dmlr.report.runs import Run
from dmlr.report.statistics import Estimate, mean, paired_difference
from dmlr.report.tables import interval, number, p_text

DRAWS = 2000


def evidence(run: Run, against: Run | None = None, seed: int = 0) -> dict[str, Any]:
    """Shares inside the evidence, plain data for JSON. Raises `UserError` when the dataset has no boxes."""
    covers = evidence_cover(run)
    if not covers:
        raise UserError(
            f"{run.folder}: no sample with evidence boxes, a local image and a recorded image grid; "
            "the dataset needs `evidence` and must be on this machine"
        )
    found = patch_evidence(run)
    samples: list[dict[str, Any]] = [
        {"data_idx": i, "inside": round(p.inside, 5), "chance": round(p.chance, 5)} for i, p in found.items()
    ]
    result: dict[str, Any] = {"samples": samples, "patches": None, "attention": None, "against": None}
    if found:
        inside, chance = [p.inside for p in found.values()], [p.chance for p in found.values()]
        luck = sum(expected_share(p.counts, p.cover, DRAWS, seed + i) for i, p in found.items()) / len(found)
        result["patches"] = {
            "samples": len(found),
            "inside": mean(inside).as_dict(),
            "chance": float(np.mean(chance)),
            "lift": lift(inside, chance).as_dict(),
            "p_against_luck": float((1 + (luck >= np.mean(inside)).sum()) / (1 + DRAWS)),
        }
    result["attention"] = _attention(run, covers)
    if against is not None:
        result["against"] = _against(run, against)
    return result | {"lines": lines(result)}


def _attention(run: Run, covers: dict[int, np.ndarray]) -> dict[str, Any] | None:
    first, last, chance = [], [], []
    for index, cover in covers.items():
        maps = load_maps(viz_folder(run), index)
        if maps is None or maps.grid != cover.shape:
            continue
        shares = [attention_share(maps.attention[step], cover) for step in (0, -1)]
        if shares[0] is not None and shares[1] is not None:
            first.append(shares[0])
            last.append(shares[1])
            chance.append(float(cover.mean()))
    if not first:
        return None
    return {
        "samples": len(first),
        "first_step": mean(first).as_dict(),
        "last_step": mean(last).as_dict(),
        "chance": float(np.mean(chance)),
        "lift_first_step": lift(first, chance).as_dict(),
        "lift_last_step": lift(last, chance).as_dict(),
    }


def _against(run: Run, other: Run) -> dict[str, Any]:
    here, there = patch_evidence(run), patch_evidence(other)
    shared = sorted(here.keys() & there.keys())
    difference = paired_difference([there[i].inside for i in shared], [here[i].inside for i in shared])
    return {
        "run": other.name,
        "samples": len(shared),
        "inside": mean([there[i].inside for i in shared]).as_dict(),
        "difference": difference.as_dict(),
    }


def lines(result: dict[str, Any]) -> list[dict[str, str]]:
    """What the terminal and the report show."""
    found = []
    patches, attention, against = result["patches"], result["attention"], result["against"]
    if patches:
        text = (
            f"{_text(patches['inside'])}, chance {number(patches['chance'])}, "
            f"difference {_text(patches['lift'], True)} over {patches['samples']} answers; "
            f"p against blindly drawn patches {p_text(patches['p_against_luck'])}"
        )
        found.append({"label": "injected patches inside the evidence", "text": text})
    else:
        found.append({"label": "injected patches inside the evidence", "text": "no patches were injected"})
    if attention:
        for key, name in (("first_step", "first"), ("last_step", "last")):
            text = (
                f"{_text(attention[key])}, chance {number(attention['chance'])}, "
                f"difference {_text(attention[f'lift_{key}'], True)} over {attention['samples']} answers"
            )
            found.append({"label": f"attention inside the evidence, {name} step", "text": text})
    if against:
        text = (
            f"{_text(against['inside'])}; this run minus that one {_text(against['difference'], True)} "
            f"over {against['samples']} answers"
        )
        found.append({"label": f"patches of {against['run']}", "text": text})
    return found


def _text(estimate: dict[str, Any], sign: bool = False) -> str:
    return interval(Estimate(**estimate), sign=sign)
