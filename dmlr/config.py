"""Every flag of a run: one frozen dataclass per concern, and how a command line becomes a `Config`.

A field is a flag: same name, its default, its help, its choices. The parser, `--config` files, `results.json`
and the check of `--resume` are all derived from the fields below. `resolve` applies defaults < preset < YAML
file < explicit flags, and reports every problem of a command line at once, before anything heavy is imported.
"""

import argparse
import dataclasses
import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn, get_type_hints

import yaml

from dmlr.errors import UserError
from dmlr.validation import problems_of


def _flag(default: Any, help_text: str, choices: tuple[Any, ...] | None = None) -> Any:
    """Dataclass field that is a flag; `help_text` and `choices` feed the parser and the checks."""
    return field(default=default, metadata={"help": help_text, "choices": choices})


@dataclass(frozen=True)
class ModelConfig:
    """Which model, where, and how large its images are."""

    model_name_or_path: str = _flag(
        "Qwen/Qwen2.5-VL-7B-Instruct", "hub id or folder of a Qwen2.5-VL; `demo` is the shipped checkpoint"
    )
    device: str = _flag("auto", "auto, cpu, cuda or cuda:N; auto takes cuda when there is one")
    dtype: str = _flag(
        "auto",
        "precision of weights and activations; auto: bfloat16 on cuda, float32 on cpu",
        ("auto", "float32", "bfloat16", "float16"),
    )
    min_pixels: int = _flag(
        128, "smallest image in IMAGE TOKENS (28 x 28 pixels each); smaller ones are enlarged"
    )
    max_pixels: int = _flag(256, "largest image in IMAGE TOKENS; larger ones are shrunk")
    trust_remote_code: bool = _flag(False, "run Python code that comes with the checkpoint")


@dataclass(frozen=True)
class LatentConfig:
    """The thought tokens, the policy that moves them and the reward that guides it (paper Eq. 5-9)."""

    num_thought_tokens: int = _flag(8, "thought tokens L; 0: none, plain generation")
    sigma: float = _flag(20.0, "noise of the policy in percent of the thoughts' RMS (see --noise_space)")
    sigma_decay: float = _flag(0.95, "factor on sigma after every step")
    lr: float = _flag(0.005, "step size of the policy")
    max_num_steps: int = _flag(20, "optimisation steps; 0: thoughts present but not optimised")
    reward_threshold: float = _flag(-1.0, "stop as soon as the best reward reaches this; 0 or less: never")
    top_k: int = _flag(10, "most probable tokens that enter the reward")
    num_candidates: int = _flag(1, "perturbed candidates K per step")
    antithetic: bool = _flag(False, "draw candidates in pairs of opposite noise (needs an even K)")
    reward_baseline: str = _flag(
        "none",
        "none: the paper; mean: leave-one-out mean of the candidates (antithetic pairs need none)",
        ("none", "mean"),
    )
    reward: str = _flag(
        "deepconf",
        "confidence reward. deepconf and entropy also rate a UNIFORM distribution highly; certainty does not",
        ("deepconf", "entropy", "certainty"),
    )
    score_rows: str = _flag(
        "thoughts",
        "rows whose next-token distribution is rewarded",
        ("thoughts", "thoughts+next", "thoughts+answer"),
    )
    noise_space: str = _flag(
        "normalised",
        "normalised: sigma and lr relative to the thoughts' RMS; absolute: raw embedding units",
        ("normalised", "absolute"),
    )
    thought_init: str = _flag(
        "endoftext",
        "endoftext: start at its embedding; random: one Gaussian draw of scale sigma around it (a control)",
        ("endoftext", "random"),
    )
    disable_conf_reward: bool = _flag(False, "the model rates its own thoughts instead")
    disable_best_reward: bool = _flag(False, "decode from the last state instead of the best one")
    use_auto_grad: bool = _flag(False, "Adam on the true gradient of the reward instead of REINFORCE")


@dataclass(frozen=True)
class VisualConfig:
    """Injection of the image patches that the thoughts attend to (paper Algorithm 1)."""

    num_selected_patches: int = _flag(16, "most patches per thought; 0 switches injection off")
    initial_patch_count: int = _flag(2, "patches per thought allowed at the start")
    patch_increment: int = _flag(2, "growth of that budget at every new best reward")
    visual_insert_stride: int = _flag(1, "inject at every n-th thought")
    visual_injection_start_step: int = _flag(0, "first step that injects")
    visual_injection_interval: int = _flag(1, "steps between injections")
    visual_only: bool = _flag(False, "start the thoughts at the mean image feature instead of <|endoftext|>")
    acceptance: str = _flag(
        "joint",
        "joint: one decision for all thoughts; per_token: the paper's inner loop, thought by thought",
        ("joint", "per_token"),
    )
    patch_choice: str = _flag(
        "attention",
        "attention: propose the most attended patches; random: as many at random (a control)",
        ("attention", "random"),
    )
    patch_placement: str = _flag(
        "before", "patches before or after their thought; before: the thought reads them", ("before", "after")
    )
    patch_positions: str = _flag(
        "text", "positions of injected patches: as text, or those of the image", ("text", "image")
    )
    decode_with_patches: bool = _flag(True, "decode from thoughts and patches (Algorithm 1)")
    visual_token_viz: bool = _flag(False, "write attention heatmaps of every step")
    visual_token_viz_dir: str | None = _flag(None, "folder of the heatmaps [OUTPUT/visual_token_viz]")


@dataclass(frozen=True)
class DecodingConfig:
    """How the answer is produced."""

    method: str = _flag("dmlr", "dmlr, or vanilla: plain greedy generation", ("dmlr", "vanilla"))
    engine: str = _flag(
        "local",
        "local: this process loads the model; openai: vanilla answers from the server at --base_url",
        ("local", "openai"),
    )
    base_url: str | None = _flag(
        None,
        "OpenAI-compatible server of --engine openai, like http://localhost:8000/v1 (key: ENGINE_API_KEY)",
    )
    request_timeout: float = _flag(600.0, "seconds that one answer of --engine openai may take")
    max_new_tokens: int = _flag(2048, "longest answer in tokens")
    solver_prompt_idx: int = _flag(0, "0 step by step, 1 detailed steps, 2 answer directly", (0, 1, 2))
    compile: str = _flag("auto", "compile the decoding loop (auto: where it pays)", ("auto", "on", "off"))


@dataclass(frozen=True)
class VerifyConfig:
    """Who says whether an answer is right."""

    use_llm_verify: bool = _flag(False, "ask the judge model where the rules cannot decide (OPENAI_API_KEY)")
    verify_only: bool = _flag(False, "judge the answers of an existing results.json again; loads no model")
    judge_all: bool = _flag(False, "ask the judge about every answer, not only the undecided ones")
    judge_concurrency: int = _flag(16, "judge calls in flight")


@dataclass(frozen=True)
class RunConfig:
    """What to run over, where results go, how the work is spread."""

    dataset: str = _flag("data/demo/demo.json", "JSON list of rows, or a name found under data/")
    output_dir: str = _flag("output", "folder of results.json, journal and logs")
    start_data_idx: int = _flag(0, "first row")
    end_data_idx: int = _flag(100, "one past the last row; clipped to the dataset")
    seed: int = _flag(42, "seed of all noise; results depend on it and on nothing else")
    resume: bool = _flag(
        False,
        "continue OUTPUT (rows that failed are tried again); starts a new one if there is none",
    )
    overwrite: bool = _flag(False, "delete the results in OUTPUT and start again")
    verbose: int = _flag(1, "0 progress bar, 1 a line per sample, 2 a line per step", (0, 1, 2))
    batch_size: int | str = _flag(
        "auto", "samples per batch (requests in flight with --engine openai), or auto; never changes results"
    )
    num_workers: int = _flag(1, "processes with a model each; more than 1 uses Ray")
    worker_device_round_robin: bool = _flag(
        False, "deal workers to this machine's GPUs in turn, several to a GPU if need be"
    )
    gpus_per_worker: float | None = _flag(
        None, "GPUs that Ray reserves per worker, fractions allowed (default: 1 when the cluster has GPUs)"
    )
    ray_address: str | None = _flag(
        None,
        "join a Ray cluster: auto, HOST:PORT or ray://HOST:PORT (default: one of its own)",
    )
    limit_seconds: float | None = _flag(None, "stop cleanly after this many seconds; --resume continues")
    save_reward_csv: bool = _flag(True, "write OUTPUT/reward_logs/reward_steps_NNNNNN.csv")
    save_latents: bool = _flag(False, "write OUTPUT/latents/NNNNNN.safetensors (best thoughts and patches)")
    ckpt_suffix: str | None = _flag(None, "accepted for old command lines; has no effect")
    disable_save_logistics: bool = _flag(False, "write no journal; such a run cannot be resumed")
    skip_bad_rows: bool = _flag(False, "turn unusable rows into entries with an error instead of stopping")
    allow_remote_images: bool = _flag(False, "fetch http(s) images named in the dataset")
    preset: str = _flag(
        "reference", "set of values; flags given explicitly win", ("reference", "paper", "tuned")
    )
    config: str | None = _flag(None, "YAML file of flags (preset < file < command line)")
    image: str | None = _flag(None, "ask one --question about this image, without a dataset")
    question: str | None = _flag(None, "question for --image (alone: a question without an image)")


@dataclass(frozen=True)
class Config:
    """All settings of one run."""

    model: ModelConfig = ModelConfig()
    latent: LatentConfig = LatentConfig()
    visual: VisualConfig = VisualConfig()
    decoding: DecodingConfig = DecodingConfig()
    verify: VerifyConfig = VerifyConfig()
    run: RunConfig = RunConfig()

    def flat(self) -> dict[str, Any]:
        """Every flag and its value, in the order of the help text."""
        return {name: value for group in dataclasses.asdict(self).values() for name, value in group.items()}

    def replace(self, **flags: Any) -> "Config":
        """Copy with some flags changed, in whichever group. `KeyError` for a name that is no flag."""
        unknown = flags.keys() - FLAGS.keys()
        if unknown:
            raise KeyError(f"no such flags: {sorted(unknown)}")
        groups = {}
        for group in dataclasses.fields(self):
            current = getattr(self, group.name)
            own = {name: flags[name] for name in flags if FLAGS[name].group == group.name}
            groups[group.name] = dataclasses.replace(current, **own)
        return Config(**groups)


@dataclass(frozen=True)
class Flag:
    """What the parser needs to know about one field."""

    name: str
    group: str
    type: Any  # as annotated: int, float, bool, str, an optional of these, or int | str for a count or "auto"
    default: Any
    help: str
    choices: tuple[Any, ...] | None


def _collect_flags() -> dict[str, Flag]:
    flags = {}
    for name, group in get_type_hints(Config).items():
        types = get_type_hints(group)
        for item in dataclasses.fields(group):
            told = item.metadata
            flags[item.name] = Flag(
                item.name, name, types[item.name], item.default, told["help"], told["choices"]
            )
    return flags


FLAGS: dict[str, Flag] = _collect_flags()

# `reference` is the defaults, `paper` is section 4 of arXiv 2512.12623, `tuned` is ours, from measurement.
PRESETS: dict[str, dict[str, Any]] = {
    "reference": {},
    "paper": {
        "num_thought_tokens": 4,
        "max_num_steps": 15,
        "sigma": 10.0,
        "sigma_decay": 0.95,
        "lr": 1e-3,
        "initial_patch_count": 2,
        "patch_increment": 2,
        "num_selected_patches": 16,
        "top_k": 10,
    },
    # The largest gain of the reward for its forwards, on questions other than the demo's (docs/LOG.md, 2026-11-21).
    "tuned": {
        "num_thought_tokens": 4,
        "num_candidates": 8,
        "reward_baseline": "mean",
        "lr": 1.0,
        "initial_patch_count": 1,
        "patch_increment": 1,
        "num_selected_patches": 4,
    },
}

_BOOLEANS = dict.fromkeys(("true", "yes", "on", "1"), True) | dict.fromkeys(
    ("false", "no", "off", "0"), False
)
DESCRIPTION = "Answer a dataset with DMLR and judge the answers."
_MISSING = object()  # a flag that was given without a value


def _convert(flag: Flag, value: Any) -> Any:
    """`value` (a word or a YAML scalar) as the flag's type; `ValueError` says what is wanted."""
    text = str(value).strip()
    if flag.type is bool:
        if text.lower() not in _BOOLEANS:
            raise ValueError("needs true or false")
        return _BOOLEANS[text.lower()]
    if value is None:
        if type(None) in getattr(flag.type, "__args__", ()):
            return None
        raise ValueError("needs a value")
    if isinstance(value, bool | list | dict):
        raise ValueError(f"cannot be a {type(value).__name__}")
    if flag.type in (int, int | str):
        if flag.type is not int and text == "auto":
            return "auto"
        try:
            converted: Any = int(text)
        except ValueError:
            raise ValueError("needs a whole number" + ("" if flag.type is int else " or auto")) from None
    elif flag.type in (float, float | None):
        try:
            converted = float(text)
        except ValueError:
            raise ValueError("needs a number") from None
    else:
        converted = str(value)
    if flag.choices and converted not in flag.choices:
        raise ValueError("must be one of " + ", ".join(map(str, flag.choices)))
    return converted


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(message)


def build_parser(prog: str = "dmlr run") -> argparse.ArgumentParser:
    """Parser with one option per flag. Values stay words; `resolve` converts them all and reports."""
    parser = _Parser(prog=prog, description=DESCRIPTION, allow_abbrev=False)
    for name, group in get_type_hints(Config).items():
        section = parser.add_argument_group(name, (group.__doc__ or "").splitlines()[0])
        for flag in FLAGS.values():
            if flag.group != name:
                continue
            values = "true|false" if flag.type is bool else "|".join(map(str, flag.choices or ())) or "VALUE"
            section.add_argument(
                f"--{flag.name}",
                nargs="?",
                const="true" if flag.type is bool else _MISSING,
                default=argparse.SUPPRESS,
                metavar=values,
                help=f"{flag.help} [{flag.default}]".replace("%", "%%"),
            )
    return parser


def _unknown(name: str, shown: str, where: str = "") -> str:
    close = difflib.get_close_matches(name, FLAGS, n=1)
    return f"{where}{shown}: unknown flag" + (f"; did you mean --{close[0]}?" if close else "; see --help")


def _read_yaml(path: Path, problems: list[str]) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = error.strerror if isinstance(error, OSError) else " ".join(str(error).split())
        problems.append(f"--config {path}: cannot be read ({reason})")
        return {}
    if content is None:
        return {}
    if not isinstance(content, dict):
        problems.append(f"--config {path}: must map flags to values, like `seed: 1`")
        return {}
    return content


def _convert_all(given: Mapping[str, Any], where: str, dashes: str, problems: list[str]) -> dict[str, Any]:
    values = {}
    for name, value in given.items():
        if name not in FLAGS or (not dashes and name == "config"):
            problems.append(_unknown(str(name), str(name), where))
        elif value is _MISSING:
            problems.append(f"{where}{dashes}{name}: needs a value")
        else:
            try:
                values[name] = _convert(FLAGS[name], value)
            except ValueError as error:
                problems.append(f"{where}{dashes}{name} {value}: {error}")
    return values


def resolve(argv: Sequence[str]) -> Config:
    """Settings of the command line `argv`: defaults < preset < --config FILE.yaml < explicit flags.

    Raises `UserError` with every problem found. With --question or --image and no explicit --output_dir,
    `run.output_dir` is "" (no files are written). Nothing but the --config file is read.
    """
    problems: list[str] = []
    known, rest = build_parser().parse_known_args(list(argv))
    after_unknown = False  # words that follow an unknown flag are its values: one problem, not several
    for word in rest:
        if word.startswith("-"):
            problems.append(_unknown(word.lstrip("-").split("=")[0], word.split("=")[0]))
            after_unknown = True
        elif not after_unknown:
            problems.append(f"{word!r}: belongs to no flag")
    explicit = _convert_all(vars(known), "", "--", problems)
    from_file: dict[str, Any] = {}
    if explicit.get("config"):
        path = Path(explicit["config"])
        from_file = _convert_all(_read_yaml(path, problems), f"--config {path}: ", "", problems)
    given = from_file | explicit
    values = PRESETS[given.get("preset", "reference")] | given
    asks_one = values.get("image") is not None or values.get("question") is not None
    if asks_one and "output_dir" not in values:
        values["output_dir"] = ""
    config = Config().replace(**values)
    problems += problems_of(config)
    if problems:
        raise UserError(problems)
    return config
