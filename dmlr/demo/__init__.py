"""The shipped demo: a synthetic world of coloured shapes and a tiny Qwen2.5-VL that was really trained on it."""
