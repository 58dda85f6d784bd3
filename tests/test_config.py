"""Flags: order of precedence, every problem at once, presets, YAML files, old command lines."""

import dataclasses
import subprocess
import sys

import pytest

from dmlr.config import FLAGS, Config, RunConfig, build_parser, resolve
from dmlr.errors import UserError
from dmlr.validation import warnings_of


def problems(*argv: str) -> list[str]:
    with pytest.raises(UserError) as caught:
        resolve(argv)
    return caught.value.problems


def test_defaults_are_those_of_the_published_code():
    flat = resolve([]).flat()
    expected = {
        "dataset": "data/demo/demo.json", "model_name_or_path": "Qwen/Qwen2.5-VL-7B-Instruct",
        "output_dir": "output", "start_data_idx": 0, "end_data_idx": 100, "max_new_tokens": 2048,
        "device": "auto", "solver_prompt_idx": 0, "seed": 42, "num_thought_tokens": 8, "sigma": 20.0,
        "sigma_decay": 0.95, "lr": 0.005, "max_num_steps": 20, "reward_threshold": -1.0, "top_k": 10,
        "verbose": 1, "min_pixels": 128, "max_pixels": 256, "num_workers": 1, "num_selected_patches": 16,
        "initial_patch_count": 2, "patch_increment": 2, "visual_insert_stride": 1,
        "visual_injection_start_step": 0, "visual_injection_interval": 1, "save_reward_csv": True,
    }  # fmt: skip
    assert {name: flat[name] for name in expected} == expected
    assert not any(flat[name] for name in ("disable_conf_reward", "disable_best_reward", "use_auto_grad"))


def test_command_line_of_the_published_code_runs():
    line = (
        "--dataset demo --model_name_or_path demo --output_dir out --start_data_idx 0 --end_data_idx 10 "
        "--max_new_tokens 64 --device cpu --solver_prompt_idx 0 --seed 0 --num_thought_tokens 4 --sigma 10.0 "
        "--sigma_decay 0.95 --lr 1e-3 --max_num_steps 3 --reward_threshold -1 --top_k 10 "
        "--disable_best_reward --resume --verbose 1 --use_llm_verify --min_pixels 128 --max_pixels 256 "
        "--num_workers 2 --worker_device_round_robin --num_selected_patches 16 --initial_patch_count 2 "
        "--patch_increment 2 --visual_insert_stride 1 --visual_injection_start_step 0 "
        "--visual_injection_interval 1 --visual_only --visual_token_viz --visual_token_viz_dir viz "
        "--save_reward_csv true --ckpt_suffix last"
    )
    config = resolve(line.split())
    assert config.latent.lr == 1e-3
    assert config.latent.reward_threshold == -1
    assert config.run.seed == 0
    assert any("ckpt_suffix" in line for line in warnings_of(config))


def test_defaults_below_preset_below_file_below_flags(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("preset: paper\nmax_num_steps: 7\nlr: 1e-2\nantithetic: false\n")
    config = resolve(["--config", str(file), "--lr", "0.5"])
    assert config.latent.num_thought_tokens == 4  # preset named in the file
    assert config.latent.max_num_steps == 7  # file over preset
    assert config.latent.lr == 0.5  # flag over file; `1e-2` is text to YAML and still a number to us
    assert config.latent.num_candidates == 1  # default
    assert resolve(["--config", str(file), "--preset", "tuned"]).latent.num_candidates == 8
    assert resolve(["--num_thought_tokens", "8", "--preset", "paper"]).latent.num_thought_tokens == 8


def test_all_problems_in_one_error(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("sigmma: 3\ntop_k: many\nconfig: other.yaml\n")
    found = problems(
        "--sgma", "3", "--lr", "--num_thought_tokens", "-2", "--min_pixels", "100352", "--dtype", "int8",
        "--config", str(file), "--resume", "--overwrite", "--device", "tpu",
    )  # fmt: skip
    text = "\n".join(found)
    for part in (
        "--sgma: unknown flag; did you mean --sigma?", "--lr: needs a value", "--num_thought_tokens -2: must",
        "--min_pixels 100352", "pixels; give 128", "--dtype int8: must be one of", "sigmma: unknown flag",
        "top_k many: needs a whole number", "config: unknown flag", "--resume and --overwrite",
        "--device tpu",
    ):  # fmt: skip
        assert part in text
    assert len(found) == 11  # those, and that min_pixels is above max_pixels; nothing twice
    assert not any("\n" in line for line in found)


@pytest.mark.parametrize(
    ("argv", "part"),
    [
        (["--solver_prompt_idx", "3"], "0, 1, 2"),
        (["--sigma", "nan"], "finite"),
        (["--sigma", "0"], "divides by sigma"),
        (["--antithetic"], "even number"),
        (["--use_auto_grad", "--disable_conf_reward"], "no gradient"),
        (["--start_data_idx", "5", "--end_data_idx", "5"], "above --start_data_idx"),
        (["--batch_size", "0"], "1 or more"),
        (["--batch_size", "some"], "whole number or auto"),
        (["--max_pixels", "100"], "--min_pixels 128 is above"),
        (["--visual_insert_stride", "0"], "1 or more"),
        (["--seed", "1.5"], "whole number"),
        (["--save_reward_csv", "maybe"], "true or false"),
        (["--gpus_per_worker", "1.5"], "whole numbers"),
        (["--limit_seconds", "0"], "above 0"),
        (["--image", "x.png"], "without --question"),
        (["--resume", "--disable_save_logistics"], "journal"),
        (["--preset", "best"], "must be one of"),
        (["--sig", "3"], "unknown flag"),
    ],
)
def test_impossible_values(argv, part):
    found = problems(*argv)
    assert len(found) == 1
    assert part in found[0]


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        (["--num_candidates", "8"], "--num_candidates 8"),
        (["--num_candidates", "4", "--antithetic"], "--num_candidates 4, --antithetic true"),
        (["--sigma", "5"], "--sigma 5.0"),
        (["--preset", "paper", "--sigma", "5"], "--sigma 5.0"),
        (["--sigma", "5", "--thought_init", "random"], None),  # the first draw uses it
        (["--preset", "paper"], None),
        (["--preset", "tuned"], None),  # nobody asked for its candidates
        (["--lr", "0.1", "--noise_space", "absolute"], None),
    ],
)
def test_settings_of_the_policy_that_the_true_gradient_ignores_are_named(argv, named):
    lines = warnings_of(resolve([*argv, "--use_auto_grad"]))
    if named is None:
        assert lines == []
    else:
        (line,) = lines
        assert line.startswith(f"{named}: no effect with --use_auto_grad")
    assert not any("use_auto_grad" in line for line in warnings_of(resolve(argv)))


def test_yaml_file_that_is_no_mapping_or_missing(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("- a\n")
    assert "must map flags" in problems("--config", str(file))[0]
    assert "No such file" in problems("--config", str(tmp_path / "none.yaml"))[0]
    file.write_text("a: [")
    assert "cannot be read" in problems("--config", str(file))[0]


def test_booleans_take_a_value_or_none():
    assert resolve(["--antithetic", "--num_candidates", "2"]).latent.antithetic
    assert resolve(["--save_reward_csv", "false"]).run.save_reward_csv is False
    assert resolve(["--decode_with_patches=false"]).visual.decode_with_patches is False


def test_one_question_needs_no_output_folder():
    assert resolve(["--question", "why?"]).run.output_dir == ""
    assert resolve(["--question", "why?", "--output_dir", "o"]).run.output_dir == "o"


def test_every_flag_has_help_and_is_replaceable():
    text = build_parser().format_help()
    for flag in FLAGS.values():
        assert f"--{flag.name} " in text
        assert flag.help
    changed = Config().replace(seed=3, lr=0.1)
    assert (changed.run.seed, changed.latent.lr) == (3, 0.1)
    with pytest.raises(KeyError):
        Config().replace(sead=3)
    assert {f.name for f in dataclasses.fields(RunConfig)} <= set(Config().flat())


def test_configuration_imports_nothing_heavy():
    code = "import sys, dmlr.cli, dmlr.runner; print({'torch', 'ray', 'transformers'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
