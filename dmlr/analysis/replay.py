"""Rebuilding what a finished run saw: its settings, its model, and for every entry the prompt, the state,
the output.

An entry is replayed only when its prompt comes out letter by letter as recorded; everything left out is
counted with its reason. Thoughts come from `latents/` (`--save_latents`); without them, those of optimised
runs cannot be had, and their start stands in for them, which the analysis says.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from qwen_vl_utils import fetch_image
from safetensors.torch import load_file

from dmlr.analysis.perturb import perturb
from dmlr.analysis.teacher import State
from dmlr.backbone import Backbone, BlockStyle, Prompt
from dmlr.config import FLAGS, Config
from dmlr.data import Sample, load_dataset
from dmlr.errors import UserError
from dmlr.inference import block_style, num_thoughts
from dmlr.report.runs import Run, dataset_file

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Replayed:
    """One entry, ready to be scored again: `ids` are the output's tokens, `spans` their characters in it."""

    entry: dict[str, Any]
    sample: Sample
    prompt: Prompt
    state: State
    ids: list[int]
    spans: list[tuple[int, int]]


class Replay:
    """The entries of a run that can be replayed. `skipped` maps a reason to the `data_idx` it left out."""

    def __init__(self, run: Run, limit: int | None = None, **flags: Any) -> None:
        """Load the run's model (`flags` override its settings, like `device`). Raises `UserError`."""
        if not run.args:
            raise UserError(
                f"{run.folder}: results.json records no settings; only runs of `dmlr run` can be replayed"
            )
        known = {name: value for name, value in run.args.items() if name in FLAGS}
        self.run = run
        self.config = Config().replace(**known | {k: v for k, v in flags.items() if v is not None})
        self.style: BlockStyle = block_style(self.config)
        self.L = num_thoughts(self.config)
        self.samples = self._samples()
        self.backbone = Backbone.load(self.config.model)
        self.skipped: dict[str, list[int]] = {}
        self.limit = limit
        self.thoughts_from = "none" if self.L == 0 else "latents"
        if self.L and not (run.folder / "latents").is_dir():
            self.thoughts_from = "start"
            if self.config.latent.max_num_steps > 0 or self.config.latent.thought_init == "random":
                log.warning(
                    "%s has no latents/: the start of the thoughts stands in for the optimised ones; "
                    "run with --save_latents for the exact sequence",
                    run.folder,
                )
                self.thoughts_from = "start (the optimised ones were not saved)"

    def _samples(self) -> dict[int, Sample]:
        file = dataset_file(self.run)
        if file is None:
            raise UserError(
                f"{self.run.folder}: its dataset {self.run.results.get('dataset')} is not on this machine"
            )
        flags = replace(self.config.run, dataset=str(file), skip_bad_rows=True)
        return {sample.data_idx: sample for sample in load_dataset(flags).samples}

    def _skip(self, reason: str, index: int) -> None:
        """Count an entry as left out."""
        self.skipped.setdefault(reason, []).append(index)

    def batches(self, size: int) -> Iterator[list[Replayed]]:
        """The entries in batches of like length."""
        found: list[Replayed] = []
        for index, entry in self.run.entries.items():
            if self.limit is not None and len(found) >= self.limit:
                break
            replayed = self._replayed(index, entry)
            if replayed is not None:
                found.append(replayed)
        found.sort(key=lambda r: len(r.ids))
        for start in range(0, len(found), size):
            yield found[start : start + size]

    def _replayed(self, index: int, entry: dict[str, Any]) -> Replayed | None:
        sample = self.samples.get(index)
        if entry.get("error") or not entry.get("model_output"):
            self._skip("no output", index)
            return None
        if sample is None or sample.problem or sample.image is None:
            self._skip("no image" if sample and not sample.problem else "not in the dataset any more", index)
            return None
        prompt = self.backbone.encode(sample, self.L, self.config.decoding.solver_prompt_idx)
        if entry.get("prompt") != prompt.text:
            self._skip("the prompt is not the recorded one", index)
            return None
        encoded = self.backbone.tokenizer(
            entry["model_output"], add_special_tokens=False, return_offsets_mapping=True
        )
        spans = [(int(a), int(b)) for a, b in encoded["offset_mapping"]]
        return Replayed(entry, sample, prompt, self._state(index, entry), list(encoded["input_ids"]), spans)

    def _state(self, index: int, entry: dict[str, Any]) -> State:
        file = self.run.folder / "latents" / f"{index:06d}.safetensors"
        if self.L == 0:
            return State(torch.zeros(0, self.backbone.width), [])
        patches: list[list[int]] = entry.get("patches") or [[] for _ in range(self.L)]
        if not self.config.visual.decode_with_patches:
            patches = [[] for _ in range(self.L)]
        if file.is_file():
            return State(load_file(file)["thoughts"].float(), patches)
        return State(torch.zeros(0, self.backbone.width), patches)  # filled in by `with_start`

    def with_start(self, batch: Sequence[Replayed]) -> list[State]:
        """States of a batch; thoughts that were not saved are the start of the optimisation."""
        states = [item.state for item in batch]
        lacking = [i for i, s in enumerate(states) if self.L and len(s.thoughts) == 0]
        if lacking:
            prefix = self.backbone.prefill([item.prompt for item in batch], reserve=8)
            start = self.backbone.initial_thoughts(prefix, self.L, self.config.visual.visual_only).cpu()
            for i in lacking:
                states[i] = State(start[i], states[i].patches)
        return states

    def spoilt_prompt(self, item: Replayed, kind: str, strength: float, seed: int, folder: Path) -> Prompt:
        """The prompt of an entry with its image spoilt (see `perturb`); `folder` takes the picture for a
        moment.
        """
        vision: Any = self.backbone.model.config.vision_config
        tile = vision.patch_size * vision.spatial_merge_size
        seen: Image.Image = fetch_image(
            {
                "image": item.sample.image,
                "min_pixels": self.backbone.min_tokens * tile**2,
                "max_pixels": self.backbone.max_tokens * tile**2,
            },
            image_patch_size=vision.patch_size,
        )
        file = folder / "spoilt.png"
        other = self._another_image(item.sample) if kind == "swap" else None
        perturb(seen, kind, strength, tile, seed + item.sample.data_idx, other).save(file)
        spoilt = replace(item.sample, image=str(file))
        prompt = self.backbone.encode(spoilt, self.L, self.config.decoding.solver_prompt_idx)
        if prompt.image_grid != item.prompt.image_grid:
            raise RuntimeError(f"sample {item.sample.data_idx}: the spoilt image has another grid")
        return prompt

    def _another_image(self, sample: Sample) -> Image.Image:
        order = sorted(
            self.samples, key=lambda i: (i <= sample.data_idx, i)
        )  # the next ones first, then around
        for index in order:
            candidate = self.samples[index]
            if candidate.image is not None and not candidate.problem and candidate.image != sample.image:
                return fetch_image({"image": candidate.image})
        raise UserError("--perturb swap: the run has a single image; take another kind")
