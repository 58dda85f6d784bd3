"""How good is the REINFORCE estimate, and what does a run gain from it? The numbers behind the `tuned` preset.

    python script/make_demo.py --split tuning --count 64 --seed 11 --out OUT
    python script/measure_policy.py --dataset OUT/tuning.json --count 64

For each policy (K candidates, baseline, antithetic pairs, the true gradient): the cosine between its estimate and the
true gradient of the reward at the start, with the standard error over questions; and, over a whole run without
patches, reward gain, gain per forward and accuracy. Never run it on the demo's evaluation questions: what it measures
decides a preset. The last line of the output is one JSON document.
"""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch

from dmlr import inference, policy
from dmlr.backbone import Backbone
from dmlr.bench.tables import table
from dmlr.config import Config, resolve
from dmlr.data import Sample, load_dataset
from dmlr.scoring import Scorer
from dmlr.verifier import verify

POLICIES: dict[str, dict[str, Any]] = {
    "K 1": {"num_candidates": 1},
    "K 1, running mean": {"num_candidates": 1, "reward_baseline": "mean"},
    "K 8": {"num_candidates": 8},
    "K 8, mean": {"num_candidates": 8, "reward_baseline": "mean"},
    "K 8, antithetic": {"num_candidates": 8, "antithetic": True},
    "K 32": {"num_candidates": 32},
    "K 32, mean": {"num_candidates": 32, "reward_baseline": "mean"},
    "K 32, antithetic": {"num_candidates": 32, "antithetic": True},
    "true gradient (Adam)": {"use_auto_grad": True},
}


def cosines(samples: list[Sample], backbone: Backbone, config: Config) -> torch.Tensor:
    """Cosine between the REINFORCE estimate and the true gradient at the start, one per sample; no patches."""
    L = config.latent.num_thought_tokens
    prompts = [backbone.encode(s, L, config.decoding.solver_prompt_idx) for s in samples]
    prefix = backbone.prefill(prompts, inference.reserve(config))
    start = backbone.initial_thoughts(prefix, L, False)
    scorer = Scorer(backbone, prefix, inference.block_style(config), config)
    none = inference.no_patches(prefix, L, 0)
    scale = policy.policy_scale(start, config.latent.noise_space)
    leaf = (start / scale).requires_grad_(True)
    first = scorer.score(leaf * scale, none)
    (truth,) = torch.autograd.grad(first.reward.sum(), leaf)
    latent = config.latent
    with torch.no_grad():
        generators = policy.noise_generators(config.run.seed, [s.data_idx for s in samples])
        noise = policy.draw_noise(generators, latent.num_candidates, L, backbone.width, latent.antithetic)
        noise = noise.to(start.device)
        _, sigma = policy.step_sigma(latent.sigma, latent.sigma_decay, 1, latent.noise_space)
        scored = scorer.score_candidates(start[:, None] + scale[:, None] * sigma * noise, none)
        baseline = torch.zeros_like(scored.reward)
        if latent.reward_baseline == "mean" and latent.num_candidates > 1:
            baseline = policy.leave_one_out(scored.reward)
        elif latent.reward_baseline == "mean":
            baseline = first.reward.detach()[:, None]
        estimate = policy.reinforce_gradient(scored.reward, noise, sigma, baseline)
    return torch.cosine_similarity(estimate.flatten(1), truth.flatten(1))


def run(samples: list[Sample], backbone: Backbone, config: Config) -> dict[str, float]:
    """Whole runs: mean gain of the reward, share of questions that gained, gain per forward, accuracy."""
    predictions = inference.answer(samples, backbone, config)
    gains = torch.tensor([p.best_reward - p.initial_reward for p in predictions])  # type: ignore[operator]
    right = [
        verify(p.model_output, s.solution, s.question, **_fields(s)).verdict == "correct"
        for p, s in zip(predictions, samples, strict=True)
    ]
    scored_per_step = 2 if config.latent.use_auto_grad else config.latent.num_candidates + 1
    return {
        "gain": float(gains.mean()),
        "rose": float((gains > 0).float().mean()),
        "gain_per_forward": float(gains.mean()) / (scored_per_step * config.latent.max_num_steps),
        "accuracy": sum(right) / len(right),
    }


def _fields(sample: Sample) -> dict[str, Any]:
    return {k: v for k, v in sample.row.items() if k not in ("prompt", "solution", "output")}


def main(argv: list[str] | None = None) -> int:
    """Measure every policy; flags of `main.py` set everything else."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=64, help="questions")
    parser.add_argument("--lrs", default="0.005,0.05", help="step sizes to try for whole runs")
    parser.add_argument("--policy", action="append", choices=POLICIES, help="only this one (repeatable)")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    args, rest = parser.parse_known_args(argv)
    torch.set_num_threads(args.threads)
    defaults = ["--model_name_or_path", "demo", "--num_selected_patches", "0", "--max_new_tokens", "192"]
    base = resolve([*defaults, "--end_data_idx", str(args.count), *rest])
    backbone = Backbone.load(base.model)
    samples = load_dataset(base.run).samples
    rows, record = [], []
    for name in args.policy or POLICIES:
        config = base.replace(**POLICIES[name])
        cosine = torch.ones(len(samples))
        if not config.latent.use_auto_grad:
            cosine = cosines(samples, backbone, config)
        error = float(cosine.std() / len(cosine) ** 0.5)
        for lr in map(float, args.lrs.split(",")):
            figures = run(samples, backbone, config.replace(lr=lr))
            line = {"policy": name, "lr": lr, "cosine": float(cosine.mean()), "cosine_error": error} | figures
            record.append(line)
            rows.append([name, lr, f"{line['cosine']:.3f} ± {error:.3f}", *figures.values()])
            print(f"measured {name}, lr {lr}", file=sys.stderr)
    head = ["policy", "lr", "cosine", "reward gain", "share risen", "gain per forward", "accuracy"]
    print(table(head, rows))
    print(
        json.dumps(
            {"dataset": base.run.dataset, "questions": len(samples), "seed": base.run.seed, "rows": record}
        )
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
