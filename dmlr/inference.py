"""DMLR's Algorithm 1 (arXiv 2512.12623), made consistent. Read this first.

    prefix (P tokens)                                     block (Q tokens)            tail (S tokens)
    [system][user: image tokens x J, question] ...        V_1 T_1 V_2 T_2 .. V_L T_L  <|im_end|> .. assistant

The prefix is computed once; each step forwards only blocks. T_l is a free embedding, V_l the projected features of
the image patches injected at thought l. Every score belongs to one state (thoughts, patches), and what is kept as
best is exactly what was scored.

Letters, here and in the modules below:
    B prompts of a batch          K candidates per step        N copies packed in one forward (K, or 1)
    L thought tokens              D embedding width            R scored rows
    P prefix length               Q block length               S tail length
    J image tokens                M patch slots per thought    V vocabulary (or, with an index, injected patches)

Departures from the paper, each with a flag or a reason in docs/differences.md: the untouched start is scored first;
rewards are of the state that is kept, not of a perturbed one; attention for the proposal is the mean over the K
candidates of the step, which are forwarded anyway.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from dmlr import injection, policy
from dmlr.backbone import Backbone, BlockStyle, Prefix, Prompt
from dmlr.config import Config
from dmlr.data import Sample
from dmlr.decoding import Generation
from dmlr.injection import EMPTY
from dmlr.prediction import Prediction, StepTrace
from dmlr.scoring import MAX_PACKED_TOKENS, Scorer


def answer(samples: Sequence[Sample], backbone: Backbone, config: Config) -> list[Prediction]:
    """Answer a batch: one `Prediction` per sample, in order, the same whatever the batch is made of.

    Raises what the model raises (out of memory included) and `ValueError` for a prompt that cannot be built.
    """
    started = time.perf_counter()
    L = num_thoughts(config)
    prompts = [backbone.encode(s, L, config.decoding.solver_prompt_idx) for s in samples]
    return answer_prompts(prompts, backbone, config, started)


def answer_prompts(
    prompts: Sequence[Prompt], backbone: Backbone, config: Config, started: float | None = None
) -> list[Prediction]:
    """`answer` for prompts that are tokenised already; `started` (perf_counter seconds) is when work on them began."""
    started = time.perf_counter() if started is None else started
    L, style = num_thoughts(config), block_style(config)
    prefix = backbone.prefill(prompts, reserve(config))
    start = backbone.initial_thoughts(prefix, L, config.visual.visual_only)
    if L == 0:
        state = State(start, no_patches(prefix, 0, 0))
        found = Optimised(final=state, best=state)
    else:
        found = optimise(start, prefix, Scorer(backbone, prefix, style, config), config)
    decoded = found.final if config.latent.disable_best_reward else found.best
    patches = decoded.patches
    if not config.visual.decode_with_patches:
        patches = torch.full_like(patches, EMPTY)
    generations = backbone.decode(prefix, decoded.thoughts, patches, style, config.decoding.max_new_tokens)
    seconds = (time.perf_counter() - started) / len(prompts)
    texts = [backbone.text(g) for g in generations]
    return _predictions(prefix, found, decoded, generations, texts, seconds, config)


def num_thoughts(config: Config) -> int:
    """L, which is 0 for plain generation."""
    return 0 if config.decoding.method == "vanilla" else config.latent.num_thought_tokens


def reserve(config: Config) -> int:
    """Cache slots to keep free behind the prefix: the largest packed block, and some tokens to decode."""
    block = num_thoughts(config) * (1 + config.visual.num_selected_patches)
    return max(block, min(block * config.latent.num_candidates, MAX_PACKED_TOKENS)) + 64


def block_style(config: Config) -> BlockStyle:
    """Block layout that the flags ask for."""
    return BlockStyle(config.visual.patch_placement, config.visual.patch_positions)


# ---- Algorithm 1 ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class State:
    """Thoughts (B, L, D) float32 in raw embedding units and the patch table (B, L, M) that goes with them."""

    thoughts: Tensor
    patches: Tensor

    def where(self, chosen: Tensor, other: "State") -> "State":
        """The same state for the samples in `chosen` (B,) bool, `other` for the rest."""
        pick = chosen[:, None, None]
        return State(
            torch.where(pick, self.thoughts, other.thoughts), torch.where(pick, self.patches, other.patches)
        )


@dataclass
class Optimised:
    """Outcome of `optimise`: last and best state, and one record per step (tensors on the device)."""

    final: State
    best: State
    initial_reward: Tensor | None = None  # (B,)
    best_reward: Tensor | None = None  # (B,)
    best_step: Tensor | None = None  # (B,) int64, 0 is the untouched start
    unparsed: Tensor | None = None  # (B,) int64
    steps: list[dict[str, Tensor]] = field(default_factory=list)


@torch.no_grad()
def optimise(start: Tensor, prefix: Prefix, scorer: Scorer, config: Config) -> Optimised:
    """Algorithm 1 for a batch: `start` (B, L, D) are the initial thoughts in raw embedding units, float32.

    The loop never waits for the device unless a reward threshold may end it.
    """
    latent, visual = config.latent, config.visual
    B, L, _ = start.shape
    mover = Policy(start, prefix, scorer, config)
    budget = Budget(prefix, config)
    state = State(mover.first_thoughts(start), no_patches(prefix, L, budget.slots))
    first = scorer.score(state.thoughts, state.patches)
    best, best_reward = state, first.reward
    best_step = torch.zeros(B, dtype=torch.long, device=start.device)
    active = torch.ones(B, dtype=torch.bool, device=start.device)
    found = Optimised(state, best, initial_reward=first.reward)

    for t in range(1, latent.max_num_steps + 1):
        active = active & ~_reached(best_reward, latent.reward_threshold)
        if latent.reward_threshold > 0 and not bool(active.any()):
            break
        moved = mover.step(t, state, best_reward)
        if due(t, config) and budget.slots:
            thoughts = injection.eligible_thoughts(L, visual.visual_insert_stride)
            attention = (
                mover.random_attention(moved.attention)
                if visual.patch_choice == "random"
                else moved.attention
            )
            rounds = [[l] for l in thoughts] if visual.acceptance == "per_token" else [thoughts]
        else:
            attention, rounds = moved.attention, [[]]

        kept, reward, improved = state.patches, best_reward, torch.zeros_like(active)
        for proposing in rounds:  # one round unless --acceptance per_token
            proposal = kept
            if proposing:
                proposal = injection.propose(attention, kept, prefix.num_patches, budget.now, proposing)
            scored = scorer.score(moved.thoughts, proposal)
            better = active & (scored.reward > best_reward)
            best = State(moved.thoughts, proposal).where(better, best)
            best_reward = torch.where(better, scored.reward, best_reward)
            best_step = torch.where(better, t, best_step)
            kept = torch.where(better[:, None, None], proposal, kept)
            improved = improved | better
            reward = scored.reward if proposing == rounds[0] else torch.maximum(reward, scored.reward)
        found.steps.append(
            {
                "active": active,
                "reward": reward,
                "is_new_best": improved,
                "patch_count": (proposal != EMPTY).sum((1, 2)),
                "patch_budget": budget.now,
                "candidate_reward_mean": moved.candidate_reward_mean,
                "top_k_mass": scored.top_k_mass,
            }
        )
        if visual.visual_token_viz:
            found.steps[-1] |= {"attention": attention, "patches": kept}
        state = State(moved.thoughts, kept).where(active, state)
        budget.grow(improved)

    found.final, found.best, found.best_reward, found.best_step = state, best, best_reward, best_step
    found.unparsed = scorer.unparsed
    return found


def due(step: int, config: Config) -> bool:
    """Whether patches are proposed at `step` (1-based)."""
    since = step - config.visual.visual_injection_start_step
    return since >= 0 and since % config.visual.visual_injection_interval == 0


def no_patches(prefix: Prefix, num_thoughts: int, slots: int) -> Tensor:
    """Empty patch table (B, L, M)."""
    shape = (len(prefix.prompts), num_thoughts, slots)
    return torch.full(shape, EMPTY, dtype=torch.long, device=prefix.valid.device)


def _reached(reward: Tensor, threshold: float) -> Tensor:
    return reward >= threshold if threshold > 0 else torch.zeros_like(reward, dtype=torch.bool)


class Budget:
    """Patches allowed per thought, (B,): grows with every new best, capped by the flag and by J."""

    def __init__(self, prefix: Prefix, config: Config) -> None:
        visual = config.visual
        self._cap = prefix.num_patches.clamp(max=visual.num_selected_patches)
        self._increment = visual.patch_increment
        self.slots = min(visual.num_selected_patches, prefix.patches.shape[1])
        self.now = self._cap.clamp(max=visual.initial_patch_count)

    def grow(self, improved: Tensor) -> None:
        """Raise the budget of the samples in `improved` (B,) bool."""
        self.now = torch.where(improved, torch.minimum(self.now + self._increment, self._cap), self.now)


@dataclass(frozen=True)
class Moved:
    """Thoughts after a policy step, (B, L, D), and what the candidates showed: attention (B, L, J), mean reward."""

    thoughts: Tensor
    attention: Tensor
    candidate_reward_mean: Tensor


class Policy:
    """The policy of one batch: draws candidates, estimates the gradient, steps (paper Eq. 5, 8, 9)."""

    def __init__(self, start: Tensor, prefix: Prefix, scorer: Scorer, config: Config) -> None:
        self._config = config
        self._latent = config.latent
        self._scorer = scorer
        self._scale = policy.policy_scale(start, config.latent.noise_space)
        self._generators = policy.noise_generators(config.run.seed, [p.data_idx for p in prefix.prompts])
        self._num_patches = prefix.num_patches
        self._past_rewards: list[Tensor] = []
        self._leaf = (start / self._scale).requires_grad_(config.latent.use_auto_grad)
        self._adam = torch.optim.Adam([self._leaf], lr=config.latent.lr, maximize=True)

    def _noise(self, count: int, antithetic: bool, like: Tensor) -> Tensor:
        L, D = like.shape[-2:]
        return policy.draw_noise(self._generators, count, L, D, antithetic).to(like.device, non_blocking=True)

    def first_thoughts(self, start: Tensor) -> Tensor:
        """The start of the optimisation; `--thought_init random` draws once around it."""
        if self._latent.thought_init == "endoftext":
            return start
        _, sigma = policy.step_sigma(self._latent.sigma, 1.0, 1, self._latent.noise_space)
        return start + self._scale * sigma * self._noise(1, False, start)[:, 0]

    def step(self, t: int, state: State, best_reward: Tensor) -> Moved:
        """Move the thoughts once, scoring K candidates (or following the true gradient)."""
        if self._latent.use_auto_grad:
            return self._follow_gradient(state)
        latent = self._latent
        _, sigma = policy.step_sigma(latent.sigma, latent.sigma_decay, t, latent.noise_space)
        noise = self._noise(latent.num_candidates, latent.antithetic, state.thoughts)
        candidates = state.thoughts[:, None] + self._scale[:, None] * sigma * noise
        scored = self._scorer.score_candidates(candidates, state.patches)
        gradient = policy.reinforce_gradient(
            scored.reward, noise, sigma, self._baseline(scored.reward, best_reward)
        )
        thoughts = state.thoughts + self._scale * latent.lr * gradient
        return Moved(thoughts, scored.attention, scored.reward.mean(1))

    def _baseline(self, rewards: Tensor, best_reward: Tensor) -> Tensor:
        if self._latent.reward_baseline == "none" or self._latent.antithetic:
            return torch.zeros_like(
                rewards
            )  # a baseline shared by an antithetic pair cancels in its difference
        if rewards.shape[1] > 1:
            return policy.leave_one_out(rewards)
        self._past_rewards.append(rewards)
        past = self._past_rewards[:-1] or [best_reward[:, None]]  # before any: the reward of the start
        return torch.stack(past).mean(0)

    def _follow_gradient(self, state: State) -> Moved:
        """Adam ascent in policy space on the differentiable reward; the thoughts are the only leaves."""
        self._leaf.data.copy_(state.thoughts / self._scale)
        with torch.enable_grad():
            scored = self._scorer.score(self._leaf * self._scale, state.patches, with_attention=True)
            (self._leaf.grad,) = torch.autograd.grad(scored.reward.sum(), self._leaf)
        self._adam.step()
        return Moved(self._leaf.detach() * self._scale, scored.attention, scored.reward.detach())

    def random_attention(self, attention: Tensor) -> Tensor:
        """Uniform scores in place of the attention (--patch_choice random), from the samples' own generators."""
        L = attention.shape[1]
        draws = torch.zeros(attention.shape)
        for b, (generator, count) in enumerate(
            zip(self._generators, self._num_patches.tolist(), strict=True)
        ):
            draws[b, :, :count] = torch.rand(L, count, generator=generator)
        return draws.to(attention.device)


# ---- records ----------------------------------------------------------------------------------------------------


def _predictions(
    prefix: Prefix,
    found: Optimised,
    decoded: State,
    generations: list[Generation],
    texts: list[str],
    seconds: float,
    config: Config,
) -> list[Prediction]:
    """Read the record of the batch off the device, once."""
    scored = found.best_reward is not None
    initial, best = (_list(found.initial_reward), _list(found.best_reward))
    steps, unparsed = _list(found.best_step), _list(found.unparsed)
    traces = _traces(found, config)
    predictions = []
    for b, prompt in enumerate(prefix.prompts):
        count = int(prefix.num_patches[b])
        viz = config.visual.visual_token_viz and bool(found.steps)
        predictions.append(
            Prediction(
                data_idx=prompt.data_idx,
                prompt=prompt.text,
                sys_prompt=prompt.sys_prompt,
                model_output=texts[b],
                stop_reason="eos_token" if generations[b].ended else "length",
                generated_tokens=len(generations[b].token_ids),
                initial_reward=initial[b] if scored else None,
                best_reward=best[b] if scored else None,
                best_reward_step=steps[b] if scored else None,
                patches=injection.patch_lists(decoded.patches[b]),
                trace=traces[b],
                unparsed_self_scores=unparsed[b] if scored else 0,
                image_grid=prompt.image_grid,
                prompt_tokens=prompt.length,
                seconds=seconds,
                thoughts=decoded.thoughts[b].float().cpu() if config.run.save_latents else None,
                attention_maps=torch.stack([s["attention"][b, :, :count].cpu() for s in found.steps])
                if viz
                else None,
                step_patches=[injection.patch_lists(s["patches"][b]) for s in found.steps] if viz else [],
            )
        )
    return predictions


def _traces(found: Optimised, config: Config) -> list[list[StepTrace]]:
    latent = config.latent
    read = [{name: _list(value) for name, value in s.items() if value.ndim == 1} for s in found.steps]
    size = len(found.best.thoughts)
    traces: list[list[StepTrace]] = [[] for _ in range(size)]
    for t, record in enumerate(read, start=1):
        sigma, _ = policy.step_sigma(latent.sigma, latent.sigma_decay, t, latent.noise_space)
        for b in range(size):
            if record["active"][b]:
                traces[b].append(
                    StepTrace(
                        t,
                        record["reward"][b],
                        sigma,
                        record["is_new_best"][b],
                        record["patch_count"][b],
                        record["patch_budget"][b],
                        record["candidate_reward_mean"][b],
                        record["top_k_mass"][b],
                    )
                )
    return traces


def _list(values: Tensor | None) -> list:
    return [] if values is None else values.tolist()
