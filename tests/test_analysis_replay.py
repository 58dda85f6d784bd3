"""Finished runs are replayed exactly: the analyses score the sequence that was decoded, and see the image."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from proof_tools import forward, full_sequence, plain_model, thoughts_of

from dmlr import runner
from dmlr.analysis.command import analyze_main
from dmlr.analysis.teacher import State, continuation_logprobs
from dmlr.backbone import BlockStyle
from dmlr.config import resolve
from dmlr.report.command import report_main


def _plain_logprobs(tiny, sample, prompt, state, ids, style):
    """log p of `ids` behind the prompt by one forward of the library's own model over the whole sequence."""
    model = plain_model(tiny)
    sequence = full_sequence(model, tiny, sample, prompt.text, state.thoughts, state.patches, style.placement)
    tail = model.get_input_embeddings()(torch.tensor([ids]))
    last = sequence.positions.max()
    sequence.positions = torch.cat(
        [sequence.positions, (last + 1 + torch.arange(len(ids))).expand(3, 1, -1)], dim=-1
    )
    first = sequence.embeds.shape[1] - 1
    sequence.embeds = torch.cat([sequence.embeds, tail], dim=1)
    logits = forward(model, sequence).logits[0, first : first + len(ids)]
    return logits.log_softmax(-1).gather(-1, torch.tensor(ids)[:, None])[:, 0]


@pytest.mark.parametrize("placement", ["before", "after"])
def test_log_probabilities_equal_a_plain_forward(tiny, samples, placement):
    style = BlockStyle(placement)
    chosen, count = samples[:3], 2
    prompts = [tiny.encode(s, count, 0) for s in chosen]
    thoughts = thoughts_of(tiny, len(chosen), count)
    patches = [[[1, 3], []], [[], []], [[0], [2, 5, 1]]]
    states = [State(t, p) for t, p in zip(thoughts, patches)]
    outputs = [[[5, 9, 300, 7], [11]], [[42, 43]], [[700, 12, 15], [5, 5], [8, 9, 10, 11, 12]]]
    scored = continuation_logprobs(tiny, prompts, states, outputs, style)
    for sample, prompt, state, own, found in zip(chosen, prompts, states, outputs, scored):
        assert [len(f) for f in found] == [len(o) for o in own]
        for ids, values in zip(own, found):
            expected = _plain_logprobs(tiny, sample, prompt, state, ids, style)
            torch.testing.assert_close(values, expected, atol=1e-4, rtol=1e-4)


def test_plain_prompts_are_scored_too_and_large_jobs_in_parts(tiny, samples, monkeypatch):
    prompt = tiny.encode(samples[0], 0, 0)
    state = State(torch.zeros(0, tiny.width), [])
    outputs = [[[5, 9, 300], [11, 12], [400]]]
    whole = continuation_logprobs(tiny, [prompt], [state], outputs, BlockStyle())[0]
    expected = _plain_logprobs(tiny, samples[0], prompt, state, [5, 9, 300], BlockStyle())
    torch.testing.assert_close(whole[0], expected, atol=1e-4, rtol=1e-4)
    monkeypatch.setattr("dmlr.analysis.teacher.MAX_LOGITS", 1)
    parts = continuation_logprobs(tiny, [prompt], [state], outputs, BlockStyle())[0]
    assert len(parts) == 3
    for one, other in zip(whole, parts):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


@pytest.fixture(scope="module")
def finished(tiny, tmp_path_factory):
    """A run of the tiny model, by the command's own way, with latents and heatmaps."""
    root = tmp_path_factory.mktemp("replay")
    tiny.model.save_pretrained(root / "model")
    tiny.processor.save_pretrained(root / "model")
    rng = np.random.default_rng(0)
    rows = []
    for i in range(4):
        small = rng.integers(0, 256, (5, 5, 3), dtype=np.uint8)
        Image.fromarray(small).resize((140, 140), Image.Resampling.NEAREST).save(root / f"{i}.png")
        evidence = [[0, 0, 70, 140]]
        rows.append(
            {"prompt": f"Say {i}.", "solution": "red", "image_path": f"{i}.png", "evidence": evidence}
        )
    (root / "data.json").write_text(json.dumps(rows))
    config = resolve(
        [
            *("--dataset", str(root / "data.json"), "--model_name_or_path", str(root / "model")),
            *("--output_dir", str(root / "out"), "--max_num_steps", "2", "--num_thought_tokens", "2"),
            *("--max_new_tokens", "6", "--min_pixels", "4", "--max_pixels", "64", "--device", "cpu"),
            *("--save_latents", "--visual_token_viz", "--verbose", "0"),
        ]
    )
    runner.run(config)
    # The random model writes nonsense; give one answer steps and a box, as a trained one does.
    file = root / "out" / "results.json"
    results = json.loads(file.read_text())
    for entry in results["entries"]:
        entry["model_output"] = "It is so red. There are 2 of the circles. \\boxed{red}"
        entry["answer"] = "red"
    results["entries"][3]["prompt"] += " altered"
    file.write_text(json.dumps(results))
    return root / "out"


def _result(capsys, *words):
    assert analyze_main(list(words)) == 0
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_visual_dependency_sees_the_image_and_only_the_image(finished, capsys):
    result = _result(capsys, "visual-dependency", str(finished), "--batch_size", "2")
    assert result["summary"]["samples"] == 3
    assert result["skipped"] == {"the prompt is not the recorded one": [3]}
    assert result["settings"]["thoughts"] == "latents"
    assert set(result["summary"]["groups"]) == {"content", "repeated", "function"}  # one question holds the 2
    saved = json.loads((finished / "analysis" / "visual_dependency.json").read_text())
    first = saved["samples"][0]
    assert "".join(first["tokens"]) == "It is so red. There are 2 of the circles. \\boxed{red}"
    assert max(abs(v) for v in first["s"]) > 1e-3
    assert _result(capsys, "visual-dependency", str(finished), "--perturb", "swap")["summary"]["samples"] == 3
    # an image that is spoilt by next to nothing makes next to no difference
    _result(capsys, "visual-dependency", str(finished), "--strength", "1e-9")
    same = json.loads((finished / "analysis" / "visual_dependency.json").read_text())
    assert max(abs(v) for row in same["samples"] for v in row["s"]) < 1e-3


def test_confidence_gains_add_up_and_meet_the_dependency(finished, capsys):
    _result(capsys, "visual-dependency", str(finished))
    result = _result(capsys, "confidence", str(finished))
    saved = json.loads((finished / "analysis" / "confidence.json").read_text())
    for row in saved["samples"]:
        assert row["steps"] == ["It is so red.", "There are 2 of the circles."]
        assert len(row["log_p"]) == len(row["gains"]) + 1 == 3
        assert sum(row["gains"]) == pytest.approx(row["log_p"][-1] - row["log_p"][0], abs=1e-3)
        assert len(row["s"]) == 2
    assert result["summary"]["steps_with_dependency"] == 6
    assert result["reward"]["best_reward"]["samples"] <= 4
    without = _result(capsys, "confidence", str(finished), "--no_model")
    assert without["summary"] is None


def test_evidence_and_the_report_take_it_all_up(finished, capsys):
    _result(capsys, "visual-dependency", str(finished))
    result = _result(capsys, "evidence", str(finished))
    assert result["attention"]["samples"] == 4
    assert result["attention"]["chance"] == pytest.approx(0.5)
    assert 0 <= result["attention"]["last_step"]["value"] <= 1
    if result["patches"]:
        assert result["patches"]["chance"] == pytest.approx(0.5)
    report_main([str(finished), "--out", str(finished / "r.html")])
    text = (finished / "r.html").read_text()
    assert "attention inside the evidence, last step" in text
    assert 'title="S = ' in text
    assert '"steps": 2' in text
