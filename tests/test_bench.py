"""The workloads of the speed measurements: what they hold still, and that nothing is printed beside the figures."""

import logging

import pytest

from dmlr import inference, naive
from dmlr.bench import workload


@pytest.fixture
def endless(tiny):
    """The tiny model as the benches use it; its own generation settings come back afterwards."""
    settings = tiny.model.generation_config
    before = settings.eos_token_id, settings.pad_token_id
    workload.never_stop(tiny)
    yield tiny
    settings.eos_token_id, settings.pad_token_id = before


def test_decoding_runs_to_its_limit_without_a_word(endless, samples, config, caplog, capsys, monkeypatch):
    """Both paths, although the model ends every answer with its first token; transformers has nothing to warn of."""
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    caplog.set_level(logging.INFO)
    eos = endless.tokenizer.eos_token_id
    head = endless.model.lm_head

    def end_at_once(module, args, logits):
        logits = logits.clone()
        logits[..., eos] = 1e4
        return logits

    hook = head.register_forward_hook(end_at_once)
    try:
        config = config.replace(max_new_tokens=5, max_num_steps=1)
        (fast,) = inference.answer(samples[:1], endless, config)
        slow = naive.answer(samples[0], endless, config)
    finally:
        hook.remove()
    assert fast.generated_tokens == slow.generated_tokens == 5
    assert fast.stop_reason == slow.stop_reason == "length"
    assert "eos" not in caplog.text + "".join(capsys.readouterr())
