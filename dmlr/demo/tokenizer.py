"""The demo's tokenizer: byte-level BPE trained on its texts, with Qwen2.5-VL's special tokens and chat format."""

import random

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from dmlr import prompts
from dmlr.demo.questions import KINDS, answer_text, make_question
from dmlr.demo.shapes import make_scene

END_OF_TEXT = "<|endoftext|>"
TURN_END = "<|im_end|>"
IMAGE_PAD = "<|image_pad|>"
SPECIAL_TOKENS = (
    END_OF_TEXT,
    "<|im_start|>",
    TURN_END,
    "<|object_ref_start|>",
    "<|object_ref_end|>",
    "<|box_start|>",
    "<|box_end|>",
    "<|quad_start|>",
    "<|quad_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    IMAGE_PAD,
    "<|video_pad|>",
)
VOCABULARY = 768

# One digit per token, words with the space before them, newlines apart: the splitting that Qwen2 tokenizers use.
_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

# The turn format of Qwen2.5-VL. A conversation without a system turn gets the project's own system prompt.
CHAT_TEMPLATE = (
    "{%- macro show(content) -%}"
    "{%- if content is string -%}{{ content }}{%- else -%}"
    "{%- for part in content -%}"
    "{%- if part.type == 'text' -%}{{ part.text }}"
    "{%- elif part.type in ('image', 'image_url') -%}<|vision_start|><|image_pad|><|vision_end|>"
    "{%- elif part.type == 'video' -%}<|vision_start|><|video_pad|><|vision_end|>"
    "{%- endif -%}{%- endfor -%}{%- endif -%}"
    "{%- endmacro -%}"
    "{%- if messages and messages[0].role != 'system' -%}"
    "{{ '<|im_start|>system\\n' + default_system + '<|im_end|>\\n' }}"
    "{%- endif -%}"
    "{%- for message in messages -%}"
    "{{ '<|im_start|>' + message.role + '\\n' }}{{ show(message.content) }}{{ '<|im_end|>\\n' }}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}"
).replace("default_system", repr(prompts.SYSTEM_PROMPT))


def training_texts(seed: int = 0, scenes: int = 400) -> list[str]:
    """Texts that the BPE merges are learned from: every instruction, and questions and answers of `scenes` scenes."""
    rng = random.Random(f"tokenizer:{seed}")
    texts = [
        prompts.SYSTEM_PROMPT,
        prompts.SELF_SCORE_REQUEST,
        prompts.THOUGHT_LEAD,
        "system\n",
        "user\n",
        "assistant\n",
    ]
    texts += list(prompts.SOLVER_INSTRUCTIONS) * 20
    for _ in range(scenes):
        scene = make_scene(rng)
        for kind in KINDS:
            question = make_question(scene, kind, rng)
            if question is not None:
                texts += [prompts.user_text(question.prompt, 0, 0), answer_text(question, scene, 1)]
    return texts


def build_tokenizer(seed: int = 0) -> PreTrainedTokenizerFast:
    """Train the tokenizer; the same seed gives the same vocabulary.

    Ids: the special tokens come first (`SPECIAL_TOKENS` in order), then the 256 bytes, then the merges.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(training_texts(seed), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=TURN_END,
        pad_token=END_OF_TEXT,
        additional_special_tokens=[t for t in SPECIAL_TOKENS if t not in (END_OF_TEXT, TURN_END)],
        padding_side="left",
        model_max_length=4096,
        clean_up_tokenization_spaces=False,
    )
