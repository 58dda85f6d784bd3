"""Speed of the fast path against the naive one, in one process, alternating; see docs/PERFORMANCE.md.

    python script/bench.py --model demo
    python script/bench.py --model random:512x8 --num_thought_tokens 2 --max_num_steps 15 \
        --initial_patch_count 1 --patch_increment 1
    python script/bench.py --suite cpu|gpu|growth [--markdown FILE]
    python script/bench.py --soak 500 --preset paper --max_new_tokens 128      # does a long run keep growing?

Flags of `main.py` set the configuration that is timed. The last line of the output is one JSON document.
"""

import argparse
import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch

from dmlr.bench import suites, workload
from dmlr.bench.compare import compare_paths
from dmlr.bench.soak import soak
from dmlr.config import resolve
from dmlr.errors import UserError
from dmlr.results import versions


def main(argv: list[str] | None = None) -> int:
    """Parse, measure, print the table and the JSON line. Returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--model", default="random:512x8", help="demo, random:WIDTHxLAYERS, random:qwen2.5-vl-7b"
    )
    parser.add_argument(
        "--image_tokens", type=int, default=256, help="image tokens per sample (a square number)"
    )
    parser.add_argument("--prompt_tokens", type=int, default=430, help="prompt length, image included")
    parser.add_argument(
        "--repeats", type=int, default=3, help="counted passes of each path, after one warm-up"
    )
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="CPU threads of torch")
    parser.add_argument(
        "--suite", choices=sorted(suites.SUITES), help="measure a whole table of goals instead"
    )
    parser.add_argument(
        "--soak",
        type=int,
        metavar="N",
        help="instead: a whole run over N samples (rows of --dataset, repeated; the demo model unless "
        "--model_name_or_path is given), resident memory after every --soak_every of them, and its growth",
    )
    parser.add_argument("--soak_every", type=int, default=100, metavar="N", help="samples between readings")
    parser.add_argument("--markdown", type=Path, help="with --suite or --soak: also write the tables there")
    args, rest = parser.parse_known_args(argv)
    torch.set_num_threads(args.threads)
    command = " ".join(["python script/bench.py", *(argv or sys.argv[1:])])
    try:
        if args.suite:
            text, record = suites.run(args.suite, args.repeats, command)
        elif args.soak:
            config = resolve(["--model_name_or_path", "demo", "--verbose", "0", *rest])
            text, record = soak(config, args.soak, args.soak_every)
            record |= {"threads": torch.get_num_threads(), "versions": versions()}
        else:
            config = resolve([*rest, "--max_new_tokens", "32"] if "--max_new_tokens" not in rest else rest)
            backbone = workload.load_backbone(
                args.model, config.model.device, config.model.dtype, args.image_tokens
            )
            text, record = compare_paths(
                backbone, config, args.image_tokens, args.prompt_tokens, args.repeats
            )
            record |= {"model": args.model}
    except UserError as error:
        for problem in error.problems:
            print(f"bench: error: {problem}", file=sys.stderr)
        return 2
    if args.markdown:
        args.markdown.write_text(text + "\n", encoding="utf-8")
    print(text)
    print(json.dumps(record | {"command": command}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
