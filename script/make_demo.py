"""Make the shipped demo: dataset splits of shapes world and the tiny Qwen2.5-VL trained on it.

    python script/make_demo.py                                  # data/demo/demo.json and its images
    python script/make_demo.py --split val --count 400 --seed 3 --out runs/val    # a further split
    python script/make_demo.py --train                          # train in .demo_build/ (resumable), then --publish STEP
    python script/make_demo.py --evaluate runs/val/val.json --model .demo_build/step-02000
    python script/make_demo.py --publish .demo_build/step-02000  # copy a checkpoint to data/demo/model/

Images and questions come from --seed, the training from --train_seed; the two share no scene.
"""

import argparse
import json
import logging
import os
import shutil
import sys
from dataclasses import fields, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch

from dmlr.demo.evaluate import Condition, evaluate_file
from dmlr.demo.shapes import scene_key
from dmlr.demo.splits import make_split, write_split
from dmlr.demo.train import TrainConfig, train, training_scenes

ROOT = Path(__file__).resolve().parent.parent

CONDITIONS = {
    "step": Condition(0),
    "detailed": Condition(1),
    "direct": Condition(2),
    "step_shuffled": Condition(0, shuffled=True),
    "step_8_thoughts": Condition(0, thoughts=8),
    "step_8_noisy": Condition(0, thoughts=8, noise=0.4),
    "step_8_noisy_patches": Condition(0, thoughts=8, noise=0.4, patches=4),
    "step_8_noisy_16_patches": Condition(0, thoughts=8, noise=0.4, patches=16),
}


def parse_args(argv: list[str]) -> argparse.Namespace:
    """Flags of the script; see the module's docstring for the uses."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--split", default="demo", help="name of the split to write (default demo)")
    parser.add_argument("--count", type=int, default=160, help="questions, two per image")
    parser.add_argument("--seed", type=int, default=1, help="seed of scenes and questions")
    parser.add_argument("--out", type=Path, default=ROOT / "data" / "demo", help="folder of the split")
    parser.add_argument("--fewest", type=int, default=11, help="fewest things in a scene")
    parser.add_argument("--most", type=int, default=15, help="most things in a scene")
    parser.add_argument("--train", action="store_true", help="train, or continue, in --build")
    parser.add_argument("--build", type=Path, default=ROOT / ".demo_build", help="folder of the training")
    parser.add_argument("--train_seed", type=int, default=TrainConfig.seed)
    for setting in fields(TrainConfig):
        if setting.type in (int, float) and setting.name != "seed":
            parser.add_argument(f"--{setting.name}", type=setting.type, default=setting.default)
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="CPU threads")
    parser.add_argument("--evaluate", type=Path, help="dataset file to score --model on")
    parser.add_argument("--model", type=Path, default=ROOT / "data" / "demo" / "model")
    parser.add_argument(
        "--conditions", default="step", help=f"comma-separated, of {', '.join(CONDITIONS)}; or all"
    )
    parser.add_argument("--limit", type=int, help="score only the first rows")
    parser.add_argument("--publish", type=Path, help="checkpoint folder to copy to --model")
    return parser.parse_args(argv)


def main(argv: list[str]) -> int:
    """Run what the flags ask for."""
    args = parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(args.threads)
    names = {f.name for f in fields(TrainConfig)} - {"seed"}
    config = TrainConfig(seed=args.train_seed)
    config = replace(config, **{name: getattr(args, name) for name in names})
    if args.train:
        train(config, args.build)
    elif args.publish:
        args.model.mkdir(parents=True, exist_ok=True)
        for file in sorted(args.publish.iterdir()):
            shutil.copyfile(file, args.model / file.name)
    elif args.evaluate:
        wanted = list(CONDITIONS) if args.conditions == "all" else args.conditions.split(",")
        results = evaluate_file(args.evaluate, args.model, [CONDITIONS[name] for name in wanted], args.limit)
        print(json.dumps(dict(zip(wanted, results, strict=True)), indent=1))
    else:
        banned = frozenset(scene_key(scene) for scene in training_scenes(config))
        rows = make_split(args.split, args.count, args.seed, args.fewest, args.most, banned)
        print(write_split(rows, args.split, args.out))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
