"""What the engine returns for one sample: plain data, no tensors on devices, no torch needed to read it."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class StepTrace:
    """One row of the reward log: the values in force *during* optimisation step `step` (1-based)."""

    step: int
    reward: (
        float  # of the state proposed for keeping at this step: thoughts after the update, proposed patches
    )
    sigma: float  # noise scale as given by --sigma (percent of the thoughts' RMS, or raw units), after decay
    is_new_best: bool
    patch_count: int  # patches in the scored proposal, summed over thoughts
    patch_budget: int  # patches allowed per thought
    candidate_reward_mean: float  # mean over the K perturbed candidates
    top_k_mass: float  # mean probability mass of the top-k tokens at the scored rows


@dataclass(frozen=True)
class Prediction:
    """Answer and record of one sample.

    `stop_reason` is `eos_token`, `length` or `exception`; with `exception`, `error` holds one line and the rest is
    empty. Rewards are None when nothing was scored (`--method vanilla`, no thoughts). `best_reward_step` 0 is the
    untouched start. `patches[l]` lists the image tokens held by thought l, in injection order, in the best state (the
    last one with --disable_best_reward); with `--decode_with_patches false` they shaped the reward but not the answer.
    """

    data_idx: int
    prompt: str = ""  # exact text that was tokenised, one image placeholder, L thought placeholders
    sys_prompt: str = ""
    model_output: str = ""
    stop_reason: str = "exception"
    generated_tokens: int = 0
    initial_reward: float | None = None
    best_reward: float | None = None
    best_reward_step: int | None = None
    patches: list[list[int]] = field(default_factory=list)
    trace: list[StepTrace] = field(default_factory=list)
    unparsed_self_scores: int = 0  # --disable_conf_reward: self-scores that were not a number (counted as 0)
    image_grid: tuple[int, int] | None = (
        None  # (rows, columns) of image tokens after resizing; None without image
    )
    prompt_tokens: int = 0
    seconds: float = 0.0  # wall time of the batch divided by its size
    thoughts: "torch.Tensor | None" = (
        None  # (L, D) float32 on the CPU, raw embedding units; with --save_latents
    )
    attention_maps: "torch.Tensor | None" = None  # (steps, L, J) float32; with --visual_token_viz
    step_patches: list[list[list[int]]] = field(
        default_factory=list
    )  # accepted patches after each step, with viz
    error: str | None = None
