"""Loading a Qwen2.5-VL: from a folder, the hub, or the shipped demo; every failure is one line that says what to do."""

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import GatedRepoError, HTTPError, RepositoryNotFoundError
from transformers import AutoConfig, AutoProcessor, GenerationConfig, Qwen2_5_VLForConditionalGeneration

from dmlr import attention
from dmlr.config import ModelConfig
from dmlr.errors import UserError

log = logging.getLogger(__name__)

DEMO_MODEL = Path(__file__).resolve().parent.parent / "data" / "demo" / "model"
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Loaded:
    """A frozen model in eval mode, its processor, and where its inputs go."""

    model: Qwen2_5_VLForConditionalGeneration
    processor: Any  # transformers' Qwen2_5_VLProcessor; the library does not type its processors
    device: torch.device


def resolve_device(name: str) -> torch.device:
    """`auto` is CUDA when there is one. Raises `UserError` for CUDA (or an index) that this machine lacks."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"--device {name}: not a device; use auto, cpu, cuda or cuda:N") from None
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise UserError(f"--device {name}: no CUDA device on this machine; use --device cpu or auto")
        if device.index is not None and device.index >= torch.cuda.device_count():
            raise UserError(f"--device {name}: this machine has {torch.cuda.device_count()} CUDA device(s)")
    elif device.type != "cpu":
        raise UserError(f"--device {name}: not supported; use auto, cpu, cuda or cuda:N")
    return device


def resolve_dtype(name: str, device: torch.device) -> torch.dtype:
    """`auto` is bfloat16 on CUDA and float32 on the CPU."""
    if name == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    return _DTYPES[name]


def load(config: ModelConfig) -> Loaded:
    """Load model and processor as `config` says; weights are frozen and nothing is trained.

    On a machine with several GPUs and `--device auto`, a model that does not fit on one of them is spread over all
    by accelerate's `device_map`. Raises `UserError` for a wrong path or id, a missing network, a gated repository,
    another architecture, or a device that is not there.
    """
    device = resolve_device(config.device)
    source = str(DEMO_MODEL) if config.model_name_or_path == "demo" else config.model_name_or_path
    if config.model_name_or_path == "demo" and not DEMO_MODEL.is_dir():
        raise UserError(
            f"--model_name_or_path demo: {DEMO_MODEL} is missing; run script/make_demo.py or use a checkout"
        )
    dtype = resolve_dtype(config.dtype, device)
    options: dict[str, Any] = {
        "trust_remote_code": config.trust_remote_code,
        "token": os.environ.get("HF_TOKEN") or os.environ.get("HUGGING_FACE_TOKEN") or None,
    }
    try:
        options |= _reach(source, options["token"])
        model_config = AutoConfig.from_pretrained(source, **options)
        if model_config.model_type != "qwen2_5_vl":
            raise UserError(
                f"--model_name_or_path {source}: a {model_config.model_type} model; DMLR runs Qwen2.5-VL "
                "(model_type qwen2_5_vl)"
            )
        if "sliding_attention" in (model_config.text_config.layer_types or []):
            raise UserError(f"--model_name_or_path {source}: sliding-window attention is not supported")
        processor = AutoProcessor.from_pretrained(source, **options)
        placement = "auto" if _wants_spreading(config.device, device) else device
        loaded: Any = Qwen2_5_VLForConditionalGeneration.from_pretrained(
            source,
            dtype=dtype,
            device_map=placement,
            attn_implementation="sdpa",
            output_loading_info=True,
            **options,
        )
        model, report = loaded
        if missing := sorted(report["missing_keys"]):  # the library fills them with noise and goes on
            raise ValueError(f"{len(missing)} weights are missing, {missing[0]} among them")
    except (UserError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # safetensors and tokenizers raise bare exceptions for damaged files
        log.debug("loading %s failed", source, exc_info=True)
        raise UserError(f"--model_name_or_path {source}: {explain(source, error)}") from error
    return finish(model, processor, device)


def _reach(source: str, token: str | None) -> dict[str, Any]:
    """Ask the hub once whether `source` is there, without the library's retries (they take 20 s off line).

    A repository that is in the local cache is used from there when the hub cannot be reached.
    """
    if Path(source).exists() or source.count("/") != 1 or source.startswith((".", "/", "~")):
        return {}
    try:
        get_hf_file_metadata(hf_hub_url(source, "config.json"), token=token, timeout=10)
    except (RepositoryNotFoundError, GatedRepoError):
        raise
    except (HTTPError, OSError):
        if isinstance(try_to_load_from_cache(source, "config.json"), str):
            log.warning("the hub cannot be reached; using the cached copy of %s", source)
            return {"local_files_only": True}
        raise
    return {}


def finish(model: Qwen2_5_VLForConditionalGeneration, processor: Any, device: torch.device) -> Loaded:
    """Freeze a model that is already in memory and put it under the project's attention function."""
    model.eval().requires_grad_(False)
    if model.generation_config is None:
        model.generation_config = GenerationConfig.from_model_config(model.config)
    attention.use(model)
    return Loaded(model, processor, device)


def _wants_spreading(asked: str, device: torch.device) -> bool:
    return asked == "auto" and device.type == "cuda" and torch.cuda.device_count() > 1


def explain(source: str, error: Exception) -> str:
    """One line for a failed load: what happened and what to do."""
    if isinstance(error, GatedRepoError):
        return "the repository is gated; accept its terms on the hub and set HUGGING_FACE_TOKEN"
    if Path(source).is_dir():
        return f"the folder does not hold a complete checkpoint ({_first_line(error)})"
    if Path(source).exists():
        return "is a file; give the folder that holds config.json, or a hub id"
    if isinstance(error, RepositoryNotFoundError):
        return "no such folder and no such repository on the hub (or it is private: set HUGGING_FACE_TOKEN)"
    if source.startswith((".", "/", "~")) or source.count("/") != 1:
        return "no such folder; give a folder that holds config.json, a hub id (owner/name), or 'demo'"
    return (
        "no such folder, and the hub gave no such model (no network, or a wrong id); "
        "give a local folder, set HF_ENDPOINT to a mirror, or use 'demo'"
    )


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
