"""Run folders made up for the tests of reports and comparisons: same layout as `dmlr run` writes, no
model."""

import csv
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

CSV_COLUMNS = [
    "step",
    "reward",
    "sigma",
    "is_new_best",
    "patch_count",
    "patch_budget",
    "candidate_reward_mean",
    "top_k_mass",
]
VERSIONS = {"dmlr": "0.1.0", "torch": "2.14.1", "transformers": "5.23.0"}


def make_dataset(folder: Path, count: int, size: tuple[int, int] = (112, 84)) -> Path:
    """A dataset of `count` rows over half as many images, each with one evidence box."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    rows = []
    for i in range(count):
        name = f"images/{i // 2:04d}.png"
        if i % 2 == 0:
            small = generator.integers(0, 255, (size[1] // 28, size[0] // 28, 3), dtype=np.uint8)
            Image.fromarray(small).resize(size, Image.Resampling.NEAREST).save(folder / name)
        rows.append(
            {
                "prompt": f"Question {i}: how many squares?",
                "solution": str(i % 4),
                "image_path": name,
                "evidence": [[28, 0, 56, 28]],
            }
        )
    file = folder / "demo.json"
    file.write_text(json.dumps(rows))
    return file


def make_run(
    folder: Path,
    dataset: Path,
    verdicts: Sequence[str],
    *,
    rewards: bool = True,
    steps: int = 4,
    args: dict[str, Any] | None = None,
    outputs: dict[int, str] | None = None,
    seed: int = 0,
) -> Path:
    """A finished run with the given verdict per row (`error` for a failed sample)."""
    generator = random.Random(seed)
    rows = json.loads(dataset.read_text())
    flags: dict[str, Any] = {"min_pixels": 128, "max_pixels": 256, "solver_prompt_idx": 0, "seed": seed}
    flags |= {"dataset": str(dataset), "use_llm_verify": False, "visual_token_viz_dir": None} | (args or {})
    (folder / "reward_logs").mkdir(parents=True, exist_ok=True)
    entries = []
    for i, verdict in enumerate(verdicts):
        start, gains = 5 + generator.random(), sorted(generator.random() for _ in range(steps))
        entry = {
            "data_idx": i,
            "question": rows[i]["prompt"],
            "image_path": rows[i]["image_path"],
            "sys_prompt": "Look.",
            "prompt": f"<|im_start|>user\n<|image_pad|>{rows[i]['prompt']}<|endoftext|><|endoftext|>",
            "model_output": (outputs or {}).get(
                i, f"There are {i % 4} squares. So the answer is \\boxed{{{i % 4}}}."
            ),
            "answer": str(i % 4) if verdict == "correct" else "9",
            "ground_truth": rows[i]["solution"],
            "ground_truth_text": rows[i]["solution"],
            "is_correct": {"correct": True, "wrong": False}.get(verdict),
            "verdict": "unjudged" if verdict == "error" else verdict,
            "verdict_by": "rules:integer",
            "verdict_reason": f"{i % 4} against {rows[i]['solution']}",
            "stop_reason": "exception" if verdict == "error" else "eos_token",
            "error": "out of memory" if verdict == "error" else None,
            "generated_tokens": 10 + i % 5,
            "seconds": 0.25,
            "initial_reward": start if rewards else None,
            "best_reward": start + gains[-1] if rewards else None,
            "best_reward_step": steps if rewards else None,
            "patches": [[1, 2], [5]] if rewards else [],
            "image_grid": [3, 4],
        }
        entries.append(entry)
        if rewards:
            with (folder / "reward_logs" / f"reward_steps_{i:06d}.csv").open("w", newline="") as handle:
                log = csv.writer(handle)
                log.writerow(CSV_COLUMNS)
                for t, gain in enumerate(gains, 1):
                    log.writerow([t, start + gain, 20 * 0.95**t, True, 2 * t, 2 * t, start + gain - 0.1, 0.9])
    correct, judged = verdicts.count("correct"), verdicts.count("correct") + verdicts.count("wrong")
    results = {
        "model": "demo",
        "dataset": str(dataset),
        "accuracy": correct / judged if judged else None,
        "correct": correct,
        "total": len(verdicts),
        "config": {key: flags[key] for key in ("min_pixels", "max_pixels", "solver_prompt_idx")},
        "args": flags,
        "versions": dict(VERSIONS),
        "metrics": {},
        "timing": {},
        "entries": entries,
    }
    (folder / "results.json").write_text(json.dumps(results))
    return folder
