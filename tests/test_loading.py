"""Loading: a folder, devices, precisions; and every failure as one line that names the model and says what to do."""

import json
import os
import socket
from types import SimpleNamespace

import pytest
import torch
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError
from proof_tools import save_checkpoint
from safetensors.torch import load_file, save_file

from dmlr import attention, cli, inference, loading
from dmlr.backbone import Backbone
from dmlr.config import ModelConfig
from dmlr.errors import UserError
from dmlr.loading import resolve_device, resolve_dtype


@pytest.fixture(scope="module")
def checkpoint(tiny, tmp_path_factory):
    """The tiny model and its processor as a folder."""
    return save_checkpoint(tiny, tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture
def broken(checkpoint, tmp_path):
    """A copy of the folder to damage; hard links, so nothing large is copied."""
    for file in checkpoint.iterdir():
        os.link(file, tmp_path / file.name)
    return tmp_path


def replace_file(path, content):
    path.unlink(missing_ok=True)  # it is a link to the sound folder's file
    path.write_bytes(content)


def model_flags(source, **flags):
    flags = {"device": "cpu", "min_pixels": 4, "max_pixels": 64} | flags
    return ModelConfig(model_name_or_path=str(source), **flags)


def problem(source, **flags):
    """The one line that loading `source` ends with; it names the model."""
    with pytest.raises(UserError) as caught:
        loading.load(model_flags(source, **flags))
    (line,) = caught.value.problems
    assert "\n" not in line
    assert f"--model_name_or_path {source}" in line
    return line


# ---- what works -------------------------------------------------------------------------------------------------


def test_a_folder_loads_and_answers_as_the_model_in_memory(tiny, samples, config, checkpoint):
    backbone = Backbone.load(model_flags(checkpoint))
    assert (backbone.dtype, backbone.device.type) == (torch.float32, "cpu")
    assert not backbone.model.training
    assert not any(p.requires_grad for p in backbone.model.parameters())
    assert backbone.model.config.text_config._attn_implementation == attention.NAME
    config = config.replace(max_num_steps=1)
    ours, theirs = (inference.answer(samples[:2], b, config) for b in (backbone, tiny))
    assert [p.model_output for p in ours] == [p.model_output for p in theirs]
    assert [p.best_reward for p in ours] == pytest.approx([p.best_reward for p in theirs], abs=1e-5)


def test_bfloat16_runs_and_scores_in_float32(samples, config, checkpoint):
    backbone = Backbone.load(model_flags(checkpoint, dtype="bfloat16"))
    assert backbone.dtype == torch.bfloat16
    for flags in ({}, {"use_auto_grad": True}):
        (prediction,) = inference.answer(samples[:1], backbone, config.replace(max_num_steps=2, **flags))
        assert prediction.thoughts.dtype == torch.float32
        assert prediction.initial_reward > 0
        assert prediction.best_reward >= prediction.initial_reward


# ---- devices ----------------------------------------------------------------------------------------------------


@pytest.fixture
def gpus(monkeypatch):
    """Pretend that this machine has so many CUDA devices."""

    def pretend(count):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)

    return pretend


def test_auto_takes_cuda_when_there_is_one(gpus):
    gpus(0)
    assert resolve_device("auto").type == "cpu"
    assert resolve_dtype("auto", torch.device("cpu")) == torch.float32
    gpus(2)
    assert resolve_device("auto").type == "cuda"
    assert resolve_device("cuda:1") == torch.device("cuda:1")
    assert resolve_device("cpu").type == "cpu"
    assert resolve_dtype("auto", torch.device("cuda")) == torch.bfloat16
    assert resolve_dtype("float16", torch.device("cpu")) == torch.float16


@pytest.mark.parametrize(
    ("name", "count", "part"),
    [
        ("cuda", 0, "no CUDA device on this machine; use --device cpu or auto"),
        ("cuda:0", 0, "no CUDA device on this machine"),
        ("cuda:2", 2, "this machine has 2 CUDA device(s)"),
        ("mps", 0, "not supported; use auto, cpu, cuda or cuda:N"),
        ("gpu", 0, "not a device"),
    ],
)
def test_a_device_that_is_not_there_is_named(gpus, name, count, part):
    gpus(count)
    with pytest.raises(UserError) as caught:
        resolve_device(name)
    (line,) = caught.value.problems
    assert line.startswith(f"--device {name}: ")
    assert part in line


def test_device_is_checked_before_the_model_is_looked_for(gpus):
    gpus(0)
    with pytest.raises(UserError, match="--device cuda"):
        loading.load(ModelConfig(model_name_or_path="no/such", device="cuda"))


# ---- wrong paths and damaged folders ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["./none", "/no/such/folder", "~/none", "some/deep/path"])
def test_a_folder_that_is_not_there(name):
    assert "no such folder; give a folder that holds config.json" in problem(name)


def test_a_file_is_no_model(tmp_path):
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"x")
    assert "is a file; give the folder" in problem(file)


def test_an_empty_folder(tmp_path):
    assert "does not hold a complete checkpoint" in problem(tmp_path)


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors", "preprocessor_config.json"])
def test_a_folder_that_lacks_a_file(broken, missing):
    names = [missing] if (broken / missing).exists() else ["processor_config.json"]
    for name in names:
        (broken / name).unlink()
    assert "does not hold a complete checkpoint" in problem(broken)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", b"{not json"),
        ("model.safetensors", b"garbage" * 50),
        ("tokenizer.json", b"{}"),
    ],
)
def test_a_damaged_file(broken, name, content):
    replace_file(broken / name, content)
    assert "does not hold a complete checkpoint" in problem(broken)


def test_weights_that_were_cut_off_while_copying(broken):
    whole = (broken / "model.safetensors").read_bytes()
    replace_file(broken / "model.safetensors", whole[: len(whole) // 2])
    assert "does not hold a complete checkpoint" in problem(broken)


def test_weights_that_lack_a_tensor_are_not_filled_with_noise(broken):
    """transformers would initialise it at random and go on with a warning."""
    weights = load_file(broken / "model.safetensors")
    name = next(name for name in weights if name.endswith("layers.1.mlp.down_proj.weight"))
    del weights[name]
    (broken / "model.safetensors").unlink()
    save_file(weights, broken / "model.safetensors", {"format": "pt"})
    line = problem(broken)
    assert "does not hold a complete checkpoint" in line
    assert "down_proj" in line


def test_another_architecture_is_named(broken):
    replace_file(broken / "config.json", json.dumps({"model_type": "llama"}).encode())
    assert "a llama model; DMLR runs Qwen2.5-VL (model_type qwen2_5_vl)" in problem(broken)


def test_sliding_windows_are_refused(broken):
    config = json.loads((broken / "config.json").read_text())
    layers = config["text_config"]["num_hidden_layers"]
    config["text_config"] |= {
        "layer_types": ["sliding_attention"] * layers,
        "use_sliding_window": True,
        "sliding_window": 8,
    }
    replace_file(broken / "config.json", json.dumps(config).encode())
    assert "sliding-window attention is not supported" in problem(broken)


def test_demo_without_its_folder(monkeypatch, tmp_path):
    monkeypatch.setattr(loading, "DEMO_MODEL", tmp_path / "none")
    assert "script/make_demo.py" in problem("demo")


# ---- the hub ----------------------------------------------------------------------------------------------------


@pytest.fixture
def no_network(monkeypatch):
    """No name resolves. Returns the hosts that were asked for; waiting to try again is a failure."""
    asked = []

    def refuse(host, *args, **kwargs):
        asked.append(host)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    def no_waiting(seconds):
        raise AssertionError(f"waits {seconds} s for a network that is not there")

    from huggingface_hub.utils import _http

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(_http, "time", SimpleNamespace(sleep=no_waiting))
    return asked


def test_without_network_the_answer_comes_at_once(no_network):
    line = problem("owner/model")
    assert "no network" in line
    assert "give a local folder" in line
    assert 1 <= len(no_network) <= 2


def test_hub_refusals_say_what_to_do():
    response = SimpleNamespace(headers={}, request=None, status_code=401)
    gated = GatedRepoError("gated", response=response)
    assert "accept its terms" in loading.explain("owner/model", gated)
    assert "HUGGING_FACE_TOKEN" in loading.explain("owner/model", gated)
    unknown = RepositoryNotFoundError("none", response=response)
    assert "no such repository" in loading.explain("owner/model", unknown)


# ---- through the command line -----------------------------------------------------------------------------------


@pytest.mark.parametrize("flags", [["--model_name_or_path", "./none"], ["--device", "cuda"]])
def test_command_line_ends_with_one_line_and_exit_code_two(tmp_path, monkeypatch, capsys, gpus, flags):
    gpus(0)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "set.json").write_text(json.dumps([{"prompt": "what?", "solution": "1"}]))
    argv = ["run", "--dataset", "set.json", "--output_dir", "out", "--device", "cpu", *flags]
    assert cli.main(argv) == 2
    printed = capsys.readouterr()
    errors = [line for line in printed.err.splitlines() if line]
    assert len(errors) == 1
    assert errors[0].startswith(f"dmlr: error: {flags[0]} {flags[1]}: ")
    assert printed.out == ""
    assert not (tmp_path / "out").exists()
