"""The other side of the proofs: the same weights in plain transformers, with nothing of the engine in the way."""

import functools
import itertools
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from PIL import Image
from torch import Tensor, nn
from transformers import Qwen2_5_VLForConditionalGeneration

from dmlr import inference
from dmlr.injection import EMPTY
from dmlr.scoring import Scorer

PLACEHOLDER = "<|endoftext|>"


@functools.cache
def plain_model(backbone) -> Qwen2_5_VLForConditionalGeneration:
    """The backbone's weights, saved and loaded by transformers alone, under eager attention."""
    with tempfile.TemporaryDirectory() as folder:
        backbone.model.save_pretrained(folder)
        model = Qwen2_5_VLForConditionalGeneration.from_pretrained(
            folder, attn_implementation="eager", dtype=torch.float32
        )
    return model.eval().requires_grad_(False)


def save_checkpoint(backbone, folder):
    """Save model and processor into `folder`, which is returned."""
    backbone.model.save_pretrained(folder)
    backbone.processor.save_pretrained(folder)
    return folder


def peak_bytes(work):
    """Most bytes that `work` holds at once beyond what there was, from the CPU allocator's own events."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
        work()
    events = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    assert events
    ordered = sorted(events, key=lambda event: event.start_ns())
    return max(itertools.accumulate(event.nbytes() for event in ordered))


def inputs_of(backbone, sample, text):
    """What the processor makes of a chat text and the sample's image (the test images need no resizing)."""
    images = None if sample.image is None else [Image.open(sample.image).convert("RGB")]
    return backbone.processor(text=[text], images=images, do_resize=False, return_tensors="pt")


def image_features(model, inputs) -> Tensor:
    """The projector's outputs, (J, D)."""
    return model.model.get_image_features(inputs["pixel_values"], inputs["image_grid_thw"]).pooler_output[0]


def rope_positions(model, ids, types, grid) -> Tensor:
    """The model's own M-RoPE positions of one sequence, (3, T); a text counts 0, 1, 2, ... on all three axes."""
    if grid is None:
        return torch.arange(len(ids)).expand(3, -1)
    positions, _ = model.model.get_rope_index(ids[None], types[None], image_grid_thw=grid)
    return positions[:, 0]


def generate(model, backbone, sample, text, max_new_tokens, **changes):
    """Token ids that the library's greedy `generate` appends to the prompt, the end token left out."""
    inputs = dict(inputs_of(backbone, sample, text))
    for name, value in changes.items():
        inputs[name] = value
        if value is None:
            del inputs[name]
    ids = model.generate(**inputs, max_new_tokens=max_new_tokens, do_sample=False)
    new = ids[0, inputs["input_ids"].shape[1] :].tolist()
    return new[:-1] if new[-1] == model.generation_config.eos_token_id else new


@dataclass
class FullSequence:
    """A whole input built by hand: embeddings (1, T, D), positions (3, 1, T), and what stands where."""

    embeds: Tensor
    positions: Tensor
    thought_rows: list[int]
    image_columns: list[int]
    after_block: int  # row of the first token behind the block


def full_sequence(
    model, backbone, sample, text, thoughts, patches, placement="before", own_positions=False
) -> FullSequence:
    """Prompt `text` with the placeholders replaced by thoughts (L, D) and the features of their patches.

    Injected rows count as text for the positions, or keep their patch's position with `own_positions`.
    """
    inputs = inputs_of(backbone, sample, text)
    ids, types = inputs["input_ids"][0], inputs["mm_token_type_ids"][0]
    placeholder = backbone.tokenizer.convert_tokens_to_ids(PLACEHOLDER)
    is_image = ids == model.config.image_token_id
    vectors = model.get_input_embeddings()(ids)
    features = torch.zeros(0, vectors.shape[1])
    if sample.image is not None:
        features = image_features(model, inputs)
        vectors[is_image] = features
    rows: list[tuple[Tensor, int, int, int | None]] = []  # vector, id, type, patch
    thought_rows, image_columns, after_block, l = [], [], 0, 0
    for vector, token, kind in zip(vectors, ids.tolist(), types.tolist(), strict=True):
        if token != placeholder:
            image_columns += [len(rows)] if token == model.config.image_token_id else []
            rows.append((vector, token, kind, None))
            continue
        injected = [(features[j], placeholder, 0, j) for j in patches[l]]
        thought = [(thoughts[l], placeholder, 0, None)]
        before = placement == "before"
        thought_rows.append(len(rows) + (len(injected) if before else 0))
        rows += injected + thought if before else thought + injected
        after_block, l = len(rows), l + 1
    grid = inputs.get("image_grid_thw")
    counted = [row for row in rows if row[3] is None or not own_positions]
    positions = rope_positions(
        model, torch.tensor([r[1] for r in counted]), torch.tensor([r[2] for r in counted]), grid
    )
    if own_positions:
        text_positions, of_image = iter(positions.T), positions[:, image_columns].T
        positions = torch.stack([next(text_positions) if r[3] is None else of_image[r[3]] for r in rows], 1)
    embeds = torch.stack([r[0] for r in rows])[None]
    return FullSequence(embeds, positions[:, None], thought_rows, image_columns, after_block)


def forward(model, sequence: FullSequence):
    """One forward of the plain model over the whole sequence; attentions included."""
    with torch.no_grad():
        return model(
            inputs_embeds=sequence.embeds,
            position_ids=sequence.positions,
            use_cache=False,
            output_attentions=True,
        )


def confidence(logits: Tensor, name: str, k: int) -> float:
    """Reward of scored rows (R, V), written out in double precision from its definition."""
    rows = []
    for row in logits.double():
        p = row.softmax(-1)
        top = p.sort(descending=True).values[:k]
        rows.append(
            {
                "deepconf": -top.log().mean(),
                "entropy": 1 + (top * top.log()).sum(),
                "certainty": 1 + torch.special.entr(p).sum() / -torch.log(torch.tensor(float(len(p)))),
            }[name]
        )
    return float(torch.stack(rows).mean())


@contextmanager
def watching(module: nn.Module) -> Iterator[list[dict]]:
    """The keyword arguments (tensors copied) of every call of a module, in order."""
    calls: list[dict] = []

    def record(_, args, kwargs):
        copies = {k: v.detach().clone() for k, v in kwargs.items() if isinstance(v, Tensor)}
        calls.append(kwargs | copies)

    handle = module.register_forward_pre_hook(record, with_kwargs=True)
    try:
        yield calls
    finally:
        handle.remove()


@contextmanager
def outputs_of(module: nn.Module) -> Iterator[list[Tensor]]:
    """The outputs (copied) of every call of a module, in order."""
    outputs: list[Tensor] = []
    handle = module.register_forward_hook(lambda _, args, output: outputs.append(output.detach().clone()))
    try:
        yield outputs
    finally:
        handle.remove()


@contextmanager
def every_state_better(monkeypatch) -> Iterator[None]:
    """Let the engine accept every proposal: the n-th state that is scored gets the reward n."""
    score, turn = Scorer.score, itertools.count(1)

    def rising(scorer, *args, **kwargs):
        scored = score(scorer, *args, **kwargs)
        return replace(scored, reward=torch.full_like(scored.reward, next(turn)))

    with monkeypatch.context() as patch:
        patch.setattr(Scorer, "score", rising)
        yield


def prefill(backbone, samples, num_thoughts):
    """Prompts of the samples behind the engine's prefix."""
    prompts = [backbone.encode(s, num_thoughts, 0) for s in samples]
    return backbone.prefill(prompts, 64)


def table(*patches: list[list[int]]) -> Tensor:
    """Patch table (B, L, M) of one list of lists per sample."""
    slots = max((len(v) for sample in patches for v in sample), default=0)
    padded = [[v + [EMPTY] * (slots - len(v)) for v in sample] for sample in patches]
    return torch.tensor(padded, dtype=torch.long).view(len(patches), len(patches[0]), slots)


def thoughts_of(backbone, batch: int, count: int, seed: int = 0) -> Tensor:
    """Random thoughts (B, L, D) of about the size of token embeddings."""
    generator = torch.Generator().manual_seed(seed)
    return 0.5 * torch.randn(batch, count, backbone.width, generator=generator)


def first_decode_logits(backbone, sample, thoughts, patches, **style) -> Tensor:
    """The logits (V,) from which the engine draws its first answer token, for one sample."""
    prefix = prefill(backbone, [sample], len(patches))
    with outputs_of(backbone.model.lm_head) as logits:
        backbone.decode(prefix, thoughts[None], table(patches), inference.BlockStyle(**style), 1)
    return logits[0].flatten()
