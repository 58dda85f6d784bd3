"""Values that no run can use: every one is named, with what to give instead, before a weight is read."""

import math
import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from dmlr.config import Config

MAX_IMAGE_TOKENS = 16384  # Qwen2.5-VL's own limit; anything above can only be a number of pixels
PIXELS_PER_TOKEN = 28 * 28

_AT_LEAST = {
    "min_pixels": 1,
    "max_pixels": 1,
    "num_thought_tokens": 0,
    "max_num_steps": 0,
    "top_k": 1,
    "num_candidates": 1,
    "num_selected_patches": 0,
    "initial_patch_count": 0,
    "patch_increment": 0,
    "visual_insert_stride": 1,
    "visual_injection_start_step": 0,
    "visual_injection_interval": 1,
    "max_new_tokens": 1,
    "judge_concurrency": 1,
    "start_data_idx": 0,
    "seed": 0,
    "num_workers": 1,
    "batch_size": 1,
    "lr": 0,
    "sigma": 0,
    "gpus_per_worker": 0,
}


def problems_of(config: "Config") -> list[str]:
    """One line per impossible value or combination in `config`; an empty list when it can run."""
    problems = _ranges(config)
    problems += _image_tokens(config)
    problems += _algorithm(config)
    problems += _engine(config)
    problems += _run(config)
    return problems


def warnings_of(config: "Config") -> list[str]:
    """One line per setting that runs but does less than its name says."""
    lines = []
    if config.run.ckpt_suffix is not None:
        lines.append("--ckpt_suffix has no effect here (nothing is trained)")
    patches = config.visual.num_selected_patches > 0 and config.latent.num_thought_tokens > 0
    if config.visual.patch_placement == "after" and config.latent.score_rows == "thoughts" and patches:
        lines.append(
            "--patch_placement after with --score_rows thoughts: the last thought's patches never reach "
            "the reward; use --score_rows thoughts+next or thoughts+answer"
        )
    lines += _idle_policy(config)
    if config.latent.antithetic and config.latent.reward_baseline == "mean":
        lines.append("--reward_baseline mean has no effect with --antithetic: it cancels within every pair")
    if config.verify.judge_all and not config.verify.use_llm_verify:
        lines.append("--judge_all has no effect without --use_llm_verify")
    if config.decoding.engine == "openai":
        model, compiled = config.model, config.decoding.compile
        idle = {"device": model.device, "dtype": model.dtype, "compile": compiled}
        lines += [f"--{n} has no effect with --engine openai" for n, v in idle.items() if v != "auto"]
    if config.run.disable_save_logistics:
        lines.append("--disable_save_logistics: no journal is written, this run cannot be resumed")
    return lines


def _idle_policy(config: "Config") -> list[str]:
    """Settings of REINFORCE that the true gradient leaves without effect; those of the preset itself are not named."""
    from dmlr.config import FLAGS, PRESETS

    if not config.latent.use_auto_grad:
        return []
    names = ["num_candidates", "antithetic", "reward_baseline", "sigma_decay"]
    if config.latent.thought_init != "random":  # which draws with this scale
        names.append("sigma")
    values, preset = config.flat(), PRESETS[config.run.preset]
    idle = [f"--{n} {str(values[n]).lower()}" for n in names if values[n] != preset.get(n, FLAGS[n].default)]
    if not idle:
        return []
    return [
        f"{', '.join(idle)}: no effect with --use_auto_grad, which draws no candidates but follows the gradient"
    ]


def _ranges(config: "Config") -> list[str]:
    values = config.flat()
    problems = []
    for name, value in values.items():
        if isinstance(value, float) and not math.isfinite(value):
            problems.append(f"--{name} {value}: must be a finite number")
        elif name in _AT_LEAST and isinstance(value, int | float) and value < _AT_LEAST[name]:
            problems.append(f"--{name} {value}: must be {_AT_LEAST[name]} or more")
        elif isinstance(value, int) and not isinstance(value, bool) and value >= 2**63:
            problems.append(f"--{name} {value}: too large")
    if config.latent.sigma_decay <= 0:
        problems.append(f"--sigma_decay {config.latent.sigma_decay}: must be above 0")
    if config.decoding.request_timeout <= 0:
        problems.append(f"--request_timeout {config.decoding.request_timeout}: must be above 0")
    if config.run.limit_seconds is not None and config.run.limit_seconds <= 0:
        problems.append(f"--limit_seconds {config.run.limit_seconds}: must be above 0")
    return problems


def _image_tokens(config: "Config") -> list[str]:
    problems = []
    for name, value in (("min_pixels", config.model.min_pixels), ("max_pixels", config.model.max_pixels)):
        if value > MAX_IMAGE_TOKENS:
            problems.append(
                f"--{name} {value}: counts image tokens of 28 x 28 pixels, and this can only be pixels; "
                f"give {max(1, value // PIXELS_PER_TOKEN)}"
            )
    if config.model.min_pixels > config.model.max_pixels:
        problems.append(
            f"--min_pixels {config.model.min_pixels} is above --max_pixels {config.model.max_pixels}: "
            "the smallest image cannot exceed the largest"
        )
    return problems


def _algorithm(config: "Config") -> list[str]:
    problems = []
    latent = config.latent
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", config.model.device):
        problems.append(f"--device {config.model.device}: must be auto, cpu, cuda or cuda:N")
    if not config.model.model_name_or_path:
        problems.append("--model_name_or_path: empty; give a hub id, a folder, or demo")
    if latent.sigma == 0 and not latent.use_auto_grad:
        problems.append("--sigma 0: REINFORCE divides by sigma; give a positive value, or --use_auto_grad")
    if latent.antithetic and latent.num_candidates % 2:
        problems.append(
            f"--antithetic needs pairs, --num_candidates is {latent.num_candidates}: give an even number "
            "or --antithetic false"
        )
    if latent.use_auto_grad and latent.disable_conf_reward:
        problems.append(
            "--use_auto_grad with --disable_conf_reward: the self-score has no gradient; drop one"
        )
    return problems


def _engine(config: "Config") -> list[str]:
    problems = []
    decoding, run = config.decoding, config.run
    if decoding.engine == "local":
        if decoding.base_url is not None:
            problems.append(
                "--base_url without --engine openai: nothing would be asked there; add it or drop this"
            )
        return problems
    if decoding.method != "vanilla":
        problems.append(
            f"--engine openai with --method {decoding.method}: a server only generates; add --method vanilla"
        )
    if decoding.base_url is None:
        problems.append("--engine openai without --base_url: give the server, like http://localhost:8000/v1")
    elif not re.match(r"https?://[^/]", decoding.base_url):
        problems.append(
            f"--base_url {decoding.base_url}: must begin with http:// or https:// and name a server"
        )
    elif "@" in urlsplit(decoding.base_url).netloc or urlsplit(decoding.base_url).query:
        # settings are written to the results, so the address is not repeated here either
        problems.append("--base_url: holds a password or a query; put the key into ENGINE_API_KEY instead")
    if run.num_workers > 1 or run.ray_address is not None:
        problems.append(
            "--num_workers and --ray_address are for --engine local: one process keeps --batch_size requests in "
            "flight; drop them"
        )
    return problems


def _run(config: "Config") -> list[str]:
    problems = []
    run = config.run
    if run.end_data_idx <= run.start_data_idx:
        problems.append(
            f"--end_data_idx {run.end_data_idx}: must be above --start_data_idx {run.start_data_idx}"
        )
    if run.resume and run.overwrite:
        problems.append("--resume and --overwrite: one continues, the other deletes; give one of them")
    if run.resume and run.disable_save_logistics:
        problems.append(
            "--resume with --disable_save_logistics: resuming needs the journal; drop one of them"
        )
    if isinstance(run.batch_size, str) and run.batch_size != "auto":
        problems.append(f"--batch_size {run.batch_size}: needs a whole number or auto")
    gpus = run.gpus_per_worker
    if gpus is not None and gpus > 1 and gpus != int(gpus):
        problems.append(f"--gpus_per_worker {gpus}: above 1 only whole numbers can be reserved")
    if run.worker_device_round_robin and run.ray_address is not None:
        problems.append(
            "--worker_device_round_robin with --ray_address: a cluster places its workers itself; "
            "drop it and use --gpus_per_worker"
        )
    if run.image is not None and run.question is None:
        problems.append("--image without --question: say what to ask about it")
    if run.question is not None and not run.question.strip():
        problems.append("--question: empty")
    one = run.image is not None or run.question is not None
    if one and (config.verify.verify_only or run.num_workers > 1):
        problems.append("--question asks one question in this process; drop --verify_only and --num_workers")
    if not one and not run.output_dir:
        problems.append("--output_dir: empty; give a folder")
    return problems
