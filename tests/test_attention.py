"""The project's attention function and its probe equal the textbook; masks and registration do what they must."""

import pytest
import torch
from transformers import AttentionInterface, AttentionMaskInterface

from dmlr import attention
from dmlr.attention import AttentionProbe, causal_mask, grouped_attention

B, P, d = 2, 7, 8


def tensors(heads, groups, queries, keys, seed=0):
    g = torch.Generator().manual_seed(seed)
    q = torch.randn(B, heads, queries, d, generator=g)
    k, v = (torch.randn(B, heads // groups, keys, d, generator=g) for _ in range(2))
    return q, k, v


def textbook(q, k, v, mask, scale=d**-0.5):
    """softmax(q k / sqrt(d)) v with key heads repeated; also the weights."""
    group = q.shape[1] // k.shape[1]
    k, v = (x.repeat_interleave(group, dim=1) for x in (k, v))
    scores = q @ k.transpose(-1, -2) * scale
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    weights = scores.softmax(-1)
    return (weights @ v).transpose(1, 2), weights


def random_mask(queries, keys):
    mask = torch.rand(B, 1, queries, keys, generator=torch.Generator().manual_seed(9)) < 0.6
    mask[..., 0] = True
    return mask


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize(("queries", "keys"), [(3, 10), (1, 10), (6, 10)])  # folded, decoding, library kernel
def test_attention_equals_the_textbook(groups, queries, keys):
    q, k, v = tensors(4, groups, queries, keys)
    mask = random_mask(queries, keys)
    out, weights = grouped_attention(torch.nn.Module(), q, k, v, mask)
    assert weights is None
    torch.testing.assert_close(out, textbook(q, k, v, mask)[0], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("groups", [1, 2])
def test_without_a_mask_one_row_sees_all_and_a_prefill_is_causal(groups):
    q, k, v = tensors(4, groups, 1, 10)
    torch.testing.assert_close(
        grouped_attention(torch.nn.Module(), q, k, v, None)[0],
        textbook(q, k, v, None)[0],
        atol=1e-5,
        rtol=1e-4,
    )
    q, k, v = tensors(4, groups, 10, 10)
    causal = torch.ones(10, 10, dtype=torch.bool).tril()
    torch.testing.assert_close(
        grouped_attention(torch.nn.Module(), q, k, v, None)[0],
        textbook(q, k, v, causal)[0],
        atol=1e-5,
        rtol=1e-4,
    )


def test_scaling_is_respected():
    q, k, v = tensors(4, 2, 3, 10)
    mask = random_mask(3, 10)
    out, _ = grouped_attention(torch.nn.Module(), q, k, v, mask, scaling=0.7)
    torch.testing.assert_close(out, textbook(q, k, v, mask, 0.7)[0], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("masked", [True, False])
def test_probe_reads_rows_and_columns_and_averages_heads_and_layers(groups, masked):
    rows, columns = torch.tensor([[0, 4], [2, 3]]), torch.tensor([[1, 5, 6], [0, 2, 9]])
    probe, expected = AttentionProbe(rows, columns), []
    mask = random_mask(5, 10) if masked else None
    for layer in range(3):
        q, k, v = tensors(4, groups, 5, 10, seed=layer)
        probe.read(q, k, mask, d**-0.5)
        weights = textbook(q, k, v, mask)[1].mean(1)
        expected.append(torch.stack([weights[b][rows[b]][:, columns[b]] for b in range(B)]))
    got = probe.mean()
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, torch.stack(expected).mean(0))


def test_probe_rides_on_the_attention_function_without_changing_it():
    q, k, v = tensors(4, 2, 5, 10)
    mask = random_mask(5, 10)
    probe = AttentionProbe(torch.tensor([[1], [2]]), torch.tensor([[3], [4]]))
    with_probe, _ = grouped_attention(torch.nn.Module(), q, k, v, mask, probe=probe)
    assert torch.equal(with_probe, grouped_attention(torch.nn.Module(), q, k, v, mask)[0])
    assert probe.mean().shape == (B, 1, 1)


def test_probe_holds_no_graph():
    q, k, _ = tensors(4, 2, 5, 10)
    probe = AttentionProbe(torch.tensor([[1], [2]]), torch.tensor([[3], [4]]))
    probe.read(q.requires_grad_(), k.requires_grad_(), None, 1.0)
    assert not probe.mean().requires_grad


def test_probe_that_saw_nothing_says_so():
    with pytest.raises(RuntimeError, match="another attention function"):
        AttentionProbe(torch.zeros(1, 1, dtype=torch.long), torch.zeros(1, 1, dtype=torch.long)).mean()


def test_causal_mask_is_needed_only_with_padding():
    assert causal_mask(torch.ones(2, 4, dtype=torch.bool)) is None
    valid = torch.tensor([[False, False, True, True], [True, True, True, True]])
    mask = causal_mask(valid)
    assert mask.shape == (2, 1, 4, 4)
    assert mask[1, 0].tolist() == torch.ones(4, 4).tril().bool().tolist()
    assert mask[0, 0, 3].tolist() == [False, False, True, True]
    assert mask[0, 0, 2].tolist() == [False, False, True, False]
    assert mask[0, 0, 0, 0]  # a padding row sees itself: no empty softmax


def test_registration_comes_with_a_mask_function(tiny):
    """Without one transformers hands over no mask at all, and left padding is ignored without an error."""
    assert attention.NAME in AttentionInterface()
    assert attention.NAME in AttentionMaskInterface()
    assert tiny.model.config.text_config._attn_implementation == attention.NAME
    assert tiny.model.config.vision_config._attn_implementation == "sdpa"


def test_another_attention_function_for_a_while(tiny):
    def fail():
        with attention.running_under(tiny.model, "eager"):
            assert tiny.model.config.text_config._attn_implementation == "eager"
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert tiny.model.config.text_config._attn_implementation == attention.NAME
