"""Algorithm 1 written the slow, obvious way: the oracle of the tests and the baseline of the benchmark.

One sample at a time, no cache, no packing: every score runs the vision tower and one full forward over prefix, block
and tail with eager attention in all layers and logits at every position, as the published code does. It shares
with the fast path only the prompt, the noise and the records; every formula and every index is written out again.
"""

import math
import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dmlr import attention, policy
from dmlr.backbone import Backbone, Prompt
from dmlr.config import Config
from dmlr.data import Sample
from dmlr.inference import block_style, due, num_thoughts
from dmlr.prediction import Prediction, StepTrace
from dmlr.prompts import SELF_SCORE_REQUEST
from dmlr.reward import parse_self_score

Patches = list[list[int]]


@dataclass
class Sequence:
    """One full input: embeddings (1, T, D), positions (3, 1, T), where the thoughts and the image tokens stand."""

    embeds: Tensor
    positions: Tensor
    thought_rows: list[int]
    image_columns: list[int]


@dataclass
class Scored:
    """Reward, mean top-k mass, and attention (L, J) of the thoughts to the image tokens."""

    reward: Tensor
    top_k_mass: float
    attention: Tensor


class NaiveScorer:
    """Builds and scores full sequences of one sample."""

    def __init__(self, prompt: Prompt, backbone: Backbone, config: Config) -> None:
        self.prompt, self.backbone, self.config = prompt, backbone, config
        self.model: Any = backbone.model  # its methods are typed for generic models
        self.style = block_style(config)
        self.unparsed = 0

    def image_features(self) -> Tensor:
        """Projected vision features of the image, (J, D); (0, D) without one."""
        if self.prompt.pixel_values is None:
            return torch.zeros(0, self.backbone.width, device=self.backbone.device)
        pixels = self.prompt.pixel_values.to(self.backbone.device)
        assert self.prompt.grid_thw is not None
        grid = self.prompt.grid_thw.to(self.backbone.device)
        return self.model.model.get_image_features(pixels, grid).pooler_output[0]

    def embed(self, ids: Tensor) -> Tensor:
        """Embeddings of tokens (n,), as (n, D)."""
        return self.model.get_input_embeddings()(ids.to(self.backbone.device))

    def build(self, thoughts: Tensor, patches: Patches, tail: list[int]) -> Sequence:
        """Lay the whole input out, token by token. `thoughts` (L, D)."""
        features = self.image_features()
        ids = self.prompt.prefix_ids.to(self.backbone.device)
        prefix = self.embed(ids)
        columns = (ids == self.model.config.image_token_id).nonzero().flatten()
        prefix[columns] = features
        embeds, positions = list(prefix), self.prompt.positions.T.tolist()
        image_columns = columns.tolist()
        image_positions = [positions[c] for c in image_columns]
        text = self.prompt.next_position
        thought_rows = []
        for l in range(len(thoughts)):
            parts: list[tuple[str, int]] = [("patch", j) for j in patches[l]]
            parts = [*parts, ("thought", l)] if self.style.placement == "before" else [("thought", l), *parts]
            for kind, index in parts:
                if kind == "patch" and self.style.patch_positions == "image":
                    positions.append(image_positions[index])
                else:
                    positions.append([text, text, text])
                    text += 1
                if kind == "thought":
                    thought_rows.append(len(embeds))
                embeds.append(features[index] if kind == "patch" else thoughts[l].to(self.backbone.dtype))
        for row in self.embed(torch.tensor(tail, dtype=torch.long)):
            embeds.append(row)
            positions.append([text, text, text])
            text += 1
        return Sequence(
            torch.stack(embeds)[None],
            torch.tensor(positions, device=self.backbone.device).T[:, None].contiguous(),
            thought_rows,
            image_columns,
        )

    def tail(self) -> list[int]:
        """Tokens after the block that a score needs."""
        ids = self.prompt.tail_ids.tolist()
        return {"thoughts": [], "thoughts+next": ids[:1], "thoughts+answer": ids}[
            self.config.latent.score_rows
        ]

    def score(self, thoughts: Tensor, patches: Patches) -> Scored:
        """Reward of one state from one full forward."""
        sequence = self.build(thoughts, patches, self.tail())
        with attention.running_under(self.model, "eager"):
            output = self.model.model.language_model(
                inputs_embeds=sequence.embeds,
                position_ids=sequence.positions,
                use_cache=False,
                output_attentions=True,
            )
        logits = self.model.lm_head(output.last_hidden_state)[0].float()
        rows = list(sequence.thought_rows)
        if self.tail():
            rows.append(logits.shape[0] - 1)
        rewards, masses = [], []
        for row in rows:
            p = torch.softmax(logits[row], dim=-1)
            top = p.topk(min(self.config.latent.top_k, len(p))).values
            masses.append(float(top.detach().sum()))
            rewards.append(self.confidence(p, top))
        reward = torch.stack(rewards).mean()
        if self.config.latent.disable_conf_reward:
            reward = self.self_score(thoughts, patches)
        per_layer = [
            a[0].mean(0)[sequence.thought_rows][:, sequence.image_columns] for a in output.attentions
        ]
        return Scored(reward, sum(masses) / len(masses), sum(per_layer) / len(per_layer))

    def confidence(self, p: Tensor, top: Tensor) -> Tensor:
        """Reward of one row from its distribution (V,) and its top-k probabilities."""
        name = self.config.latent.reward
        if name == "deepconf":
            return -torch.log(top).sum() / len(top)
        if name == "entropy":
            return 1 - -(top * torch.log(top)).sum()
        return 1 - -(p * torch.log(p)).nansum() / math.log(len(p))

    def self_score(self, thoughts: Tensor, patches: Patches) -> Tensor:
        """The model's own rating of the thoughts."""
        request = self.backbone.tokenizer(SELF_SCORE_REQUEST, add_special_tokens=False)["input_ids"]
        text, _, _ = self.decode(thoughts, patches, 8, request + self.prompt.tail_ids.tolist())
        value = parse_self_score(text)
        self.unparsed += value is None
        return torch.tensor(value or 0.0)

    @torch.no_grad()
    def decode(
        self, thoughts: Tensor, patches: Patches, max_new_tokens: int, tail: list[int] | None = None
    ) -> tuple[str, int, bool]:
        """Greedy answer by the library's `generate`: text, number of tokens, whether it ended."""
        sequence = self.build(thoughts, patches, self.prompt.tail_ids.tolist() if tail is None else tail)
        with attention.running_under(self.model, "sdpa"):
            ids = self.model.generate(
                inputs_embeds=sequence.embeds,
                position_ids=sequence.positions,
                attention_mask=torch.ones(
                    sequence.embeds.shape[:2], device=sequence.embeds.device, dtype=torch.long
                ),
                max_new_tokens=max_new_tokens,
                do_sample=False,
            )[0].tolist()
        eos = self.model.generation_config.eos_token_id
        ended = ids[-1] in (eos if isinstance(eos, list) else [eos])
        ids = ids[:-1] if ended else ids
        return self.backbone.tokenizer.decode(ids, skip_special_tokens=True), len(ids), ended


def answer(sample: Sample, backbone: Backbone, config: Config) -> Prediction:
    """`inference.answer` for one sample, the slow way; same flags, same seeds."""
    started = time.perf_counter()
    prompt = backbone.encode(sample, num_thoughts(config), config.decoding.solver_prompt_idx)
    return answer_prompt(prompt, backbone, config, started)


def answer_prompt(prompt: Prompt, backbone: Backbone, config: Config, started: float) -> Prediction:
    """`answer` for a prompt that is tokenised already."""
    L = num_thoughts(config)
    scorer = NaiveScorer(prompt, backbone, config)
    found = optimise(scorer, backbone, config) if L else None
    thoughts: Tensor = torch.zeros(0, backbone.width, device=backbone.device)
    patches: Patches = []
    if found is not None:
        thoughts, patches = found.last if config.latent.disable_best_reward else found.best
    shown = patches if config.visual.decode_with_patches else [[] for _ in patches]
    text, count, ended = scorer.decode(thoughts, shown, config.decoding.max_new_tokens)
    return Prediction(
        data_idx=prompt.data_idx,
        prompt=prompt.text,
        sys_prompt=prompt.sys_prompt,
        model_output=text,
        stop_reason="eos_token" if ended else "length",
        generated_tokens=count,
        initial_reward=found.initial_reward if found else None,
        best_reward=found.best_reward if found else None,
        best_reward_step=found.best_step if found else None,
        patches=patches,
        trace=found.trace if found else [],
        unparsed_self_scores=scorer.unparsed,
        image_grid=prompt.image_grid,
        prompt_tokens=prompt.length,
        seconds=time.perf_counter() - started,
        thoughts=thoughts.float().cpu(),
    )


@dataclass
class Found:
    """Outcome of the naive optimisation."""

    initial_reward: float
    best_reward: float
    best_step: int
    best: tuple[Tensor, Patches]
    last: tuple[Tensor, Patches]
    trace: list[StepTrace]


def start_thoughts(scorer: NaiveScorer, config: Config, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Initial thoughts (L, D) float32 and the scale of the policy space (a scalar)."""
    L = config.latent.num_thought_tokens
    token = scorer.backbone.tokenizer.convert_tokens_to_ids("<|endoftext|>")
    start = scorer.embed(torch.tensor([token]))[0].float()
    features = scorer.image_features().float()
    if config.visual.visual_only and len(features):
        mean = features.mean(0)
        rms = scorer.model.get_input_embeddings().weight.float().pow(2).mean().sqrt()
        start = mean * rms / mean.pow(2).mean().sqrt()
    thoughts = torch.stack([start] * L)
    scale = thoughts.pow(2).mean().sqrt() if config.latent.noise_space == "normalised" else torch.ones(())
    if config.latent.thought_init == "random":
        z = policy.draw_noise([generator], 1, L, scorer.backbone.width, False)[0, 0].to(thoughts.device)
        thoughts = thoughts + scale * policy_sigma(config, 0) * z
    return thoughts, scale


def policy_sigma(config: Config, steps_done: int) -> float:
    """Noise scale in policy space after `steps_done` decays."""
    sigma = config.latent.sigma * config.latent.sigma_decay**steps_done
    return sigma if config.latent.noise_space == "absolute" else sigma / 100


@torch.no_grad()
def optimise(scorer: NaiveScorer, backbone: Backbone, config: Config) -> Found:
    """Algorithm 1 for one sample."""
    latent, visual = config.latent, config.visual
    L = latent.num_thought_tokens
    generator = policy.noise_generators(config.run.seed, [scorer.prompt.data_idx])[0]
    thoughts, scale = start_thoughts(scorer, config, generator)
    num_image_tokens = len(scorer.image_features())
    cap = min(visual.num_selected_patches, num_image_tokens)
    budget = min(visual.initial_patch_count, cap)
    patches: Patches = [[] for _ in range(L)]
    first = scorer.score(thoughts, patches)
    best_reward, best_step, best = float(first.reward), 0, (thoughts, patches)
    past: list[float] = []
    trace = []
    leaf = (thoughts / scale).clone().requires_grad_(True)
    adam = torch.optim.Adam([leaf], lr=latent.lr, maximize=True)

    for t in range(1, latent.max_num_steps + 1):
        if 0 < latent.reward_threshold <= best_reward:
            break
        sigma = policy_sigma(config, t - 1)
        if latent.use_auto_grad:
            leaf.data.copy_(thoughts / scale)
            with torch.enable_grad():
                scored = scorer.score(leaf * scale, patches)
                leaf.grad = torch.autograd.grad(scored.reward, leaf)[0]
            adam.step()
            thoughts = leaf.detach() * scale
            rewards, weights = [float(scored.reward.detach())], scored.attention
        else:
            K = latent.num_candidates
            z = policy.draw_noise([generator], K, L, backbone.width, latent.antithetic)[0].to(thoughts.device)
            scores = [scorer.score(thoughts + scale * sigma * z[k], patches) for k in range(K)]
            rewards = [float(s.reward) for s in scores]
            weights = torch.stack([s.attention for s in scores]).mean(0)
            gradient = torch.zeros_like(thoughts)
            for k in range(K):
                baseline = 0.0
                if latent.antithetic:
                    pass  # whatever the two members of a pair share cancels
                elif latent.reward_baseline == "mean" and K > 1:
                    baseline = (sum(rewards) - rewards[k]) / (K - 1)
                elif latent.reward_baseline == "mean":
                    baseline = sum(past) / len(past) if past else best_reward
                gradient += (rewards[k] - baseline) * sigma * z[k] / sigma**2 / K
            past += rewards
            thoughts = thoughts + scale * latent.lr * gradient

        rounds: list[list[int]] = [[]]
        if due(t, config) and visual.num_selected_patches > 0 and num_image_tokens > 0:
            proposing = [l for l in range(L) if l % visual.visual_insert_stride == 0]
            rounds = [[l] for l in proposing] if visual.acceptance == "per_token" else [proposing]
            if visual.patch_choice == "random":
                weights = torch.rand(L, num_image_tokens, generator=generator)
        improved, round_rewards = False, []
        budget_now = budget
        for proposing in rounds:
            proposal = [list(v) for v in patches]
            for l in proposing:
                for j in weights[l].argsort(descending=True).tolist():
                    if len(proposal[l]) < budget_now and j not in proposal[l]:
                        proposal[l].append(j)
            scored = scorer.score(thoughts, proposal)
            round_rewards.append(float(scored.reward))
            if float(scored.reward) > best_reward:
                best_reward, best_step, best = float(scored.reward), t, (thoughts, proposal)
                patches, improved = proposal, True
        if improved:
            budget = min(budget + visual.patch_increment, cap)
        trace.append(
            StepTrace(
                t,
                max(round_rewards),
                latent.sigma * latent.sigma_decay ** (t - 1),
                improved,
                sum(len(v) for v in proposal),
                budget_now,
                sum(rewards) / len(rewards),
                scored.top_k_mass,
            )
        )
    return Found(float(first.reward), best_reward, best_step, best, (thoughts, patches), trace)
