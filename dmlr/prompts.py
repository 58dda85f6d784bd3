"""Prompt texts: the question once, one instruction, and the thought block at the end of the user turn.

The layout is that of Algorithm 1 (arXiv 2512.12623): image, task, then the thought tokens, which the model sees
before its own turn begins. Nothing here tokenises; `backbone.py` does.
"""

from typing import Any

SYSTEM_PROMPT = "You look at the image closely and answer the question about it."

SOLVER_INSTRUCTIONS = (
    "Think step by step about the image and the question, then put the final answer in \\boxed{}.",
    "Describe in detail what you see and every step that leads to the answer, then put the final answer in \\boxed{}.",
    "Give the final answer directly, in \\boxed{} and without any explanation.",
)

# A thought placeholder is one `<|endoftext|>`: its embedding is where the optimisation starts.
THOUGHT_PLACEHOLDER = "<|endoftext|>"
THOUGHT_LEAD = "\nLatent thoughts: "

SELF_SCORE_REQUEST = (
    "\nHow useful are these latent thoughts for answering the question? Reply with one number from 0 to 1."
)


def user_text(question: str, solver_prompt_idx: int, num_thought_tokens: int) -> str:
    """Text of the user turn after the image: question, instruction, and L thought placeholders (none: no lead)."""
    text = f"{question.strip()}\n{SOLVER_INSTRUCTIONS[solver_prompt_idx]}"
    if num_thought_tokens:
        text += THOUGHT_LEAD + THOUGHT_PLACEHOLDER * num_thought_tokens
    return text


def messages(text: str, has_image: bool) -> list[dict[str, Any]]:
    """Chat messages for `apply_chat_template`: system turn, then image (if any) and `text` in the user turn."""
    content: list[dict[str, Any]] = [{"type": "image"}] if has_image else []
    content.append({"type": "text", "text": text})
    return [
        {"role": "system", "content": [{"type": "text", "text": SYSTEM_PROMPT}]},
        {"role": "user", "content": content},
    ]
