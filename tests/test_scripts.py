"""The two commands, the checks and the documents around them, run against stubs: nothing is installed."""

import re
import shutil
import stat
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

from dmlr.config import FLAGS, resolve

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = [*sorted(ROOT.glob("script/*.sh")), ROOT / ".ci" / "run"]

# Stands for .venv/bin/python: notes every call; torch sees a GPU when STUB_CUDA is set; pytest says its line.
STUB_PYTHON = """#!/bin/bash
echo "$@" >>"$STUB_LOG"
case "$*" in
    --version) echo "Python 3.11.7" ;;
    *cuda.is_available*) [[ -n "${STUB_CUDA:-}" ]] ;;
    "-m pytest"*) echo "3 passed in 0.01s" ;;
    main.py*) printf '%s\\n' "$@" >"$STUB_LOG.main" ;;
esac
"""


def executable(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


class Project:
    """A copy of the scripts in a folder of its own (with a space in its name) around a stub interpreter."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "a project"
        self.log = folder / "calls"
        for name in ("script", ".ci"):
            shutil.copytree(
                ROOT / name, self.root / name, ignore=shutil.ignore_patterns("*.py", "__pycache__")
            )
        for name in ("requirements.txt", "pyproject.toml"):
            shutil.copy(ROOT / name, self.root / name)
        executable(self.root / ".venv/bin/python", STUB_PYTHON)
        executable(folder / "bin/chromium", "#!/bin/bash\n")
        self.environment = {"PATH": f"{folder / 'bin'}:/usr/bin:/bin", "STUB_LOG": str(self.log)}

    def run(self, script: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["/bin/bash", str(self.root / script), *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            cwd=self.root.parent,
            env=self.environment | environment,
        )

    def installs(self) -> int:
        return self.log.read_text().count("-m pip install") if self.log.exists() else 0

    def main_arguments(self) -> list[str]:
        return Path(f"{self.log}.main").read_text().splitlines()


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda p: p.name)
def test_shell_syntax(script):
    checked = subprocess.run(["bash", "-n", str(script)], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr


def test_setup_installs_once_and_again_when_the_pins_change(project):
    assert project.run("script/setup.sh").returncode == 0
    assert project.installs() == 2  # the pins, then the project itself
    project.run("script/setup.sh")
    assert project.installs() == 2
    with (project.root / "requirements.txt").open("a") as pins:
        pins.write("another==1.0\n")
    project.run("script/setup.sh")
    assert project.installs() == 4


def test_a_moved_project_is_installed_again(project):
    project.run("script/setup.sh")
    project.root = project.root.rename(project.root.with_name("moved"))
    project.run("script/setup.sh")
    assert project.installs() == 4  # the editable install would point at the old folder


def test_a_failed_install_is_not_taken_for_a_finished_one(project):
    broken = STUB_PYTHON.replace("case", '[[ "$*" == *"-r requirements.txt"* ]] && exit 1\ncase', 1)
    executable(project.root / ".venv/bin/python", broken)
    failed = project.run("script/setup.sh")
    assert failed.returncode == 1
    assert failed.stderr.splitlines()[-1].startswith("setup: error: pip could not install requirements.txt")
    executable(project.root / ".venv/bin/python", STUB_PYTHON)
    project.run("script/setup.sh")
    assert project.installs() == 3


def test_no_recent_python_is_one_clear_line(project, tmp_path):
    shutil.rmtree(project.root / ".venv")
    tools = tmp_path / "tools"
    for name in ("dirname", "sha256sum", "cut", "cat"):
        tools.mkdir(exist_ok=True)
        (tools / name).symlink_to(shutil.which(name))
    executable(tools / "python3", "#!/bin/bash\nexit 1\n")  # an old one: the version check fails
    done = project.run("script/setup.sh", PATH=str(tools))
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("setup: error: Python 3.11 or newer is needed and none was found")


def value_of(arguments: list[str], flag: str) -> str:
    return arguments[arguments.index(flag) + 1]


def test_run_takes_the_demo_unless_there_is_a_gpu_and_both_names(project):
    project.run("script/run.sh", STUB_CUDA="1")
    assert value_of(project.main_arguments(), "--model_name_or_path") == "demo"
    told = project.run("script/run.sh", MODEL="some/model", DATASET="a b.json")
    assert value_of(project.main_arguments(), "--model_name_or_path") == "demo"
    assert "running the demo" in told.stderr
    project.run("script/run.sh", MODEL="some/model", DATASET="a b.json", STUB_CUDA="1")
    assert value_of(project.main_arguments(), "--model_name_or_path") == "some/model"
    assert value_of(project.main_arguments(), "--dataset") == "a b.json"


def test_run_passes_flags_that_exist_and_arguments_win(project):
    project.run("script/run.sh", "--seed", "7", "--method", "vanilla", SEED="1", OUTPUT_DIR="out")
    config = resolve(project.main_arguments()[1:])
    assert config.run.seed == 7
    assert config.decoding.method == "vanilla"
    assert config.run.output_dir == "out"


def test_run_keeps_standard_output_to_the_program(project):
    assert project.run("script/run.sh").stdout == ""  # whose last line is then the run's JSON document


def test_run_writes_to_a_fresh_folder_each_time(project):
    project.run("script/run.sh")
    assert re.fullmatch(r"output/\d{8}-\d{6}", value_of(project.main_arguments(), "--output_dir"))


@pytest.mark.parametrize("broken", [None, "ruff", "mypy"])
def test_checks_report_any_failure_and_end_with_the_tests(project, broken):
    for tool in ("ruff", "mypy"):
        executable(project.root / ".venv/bin" / tool, f"#!/bin/bash\nexit {int(tool == broken)}\n")
    done = project.run(".ci/run")
    assert done.returncode == (0 if broken is None else 1)
    assert done.stdout.splitlines()[-1] == "3 passed in 0.01s"


def test_hooks_and_workflow_run_the_same_checks():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert [repository["repo"] for repository in hooks] == ["local"]
    commands = [hook["entry"].split(" --")[0] for hook in hooks[0]["hooks"]]
    assert commands == [".venv/bin/ruff check", ".venv/bin/ruff format", ".venv/bin/mypy"]
    checks = (ROOT / ".ci/run").read_text()
    assert all(command in checks for command in commands)
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    assert "bash .ci/run" in [step.get("run") for step in workflow["jobs"]["checks"]["steps"]]


def requirements(lines: list[str]) -> dict[str, Requirement]:
    parsed = [Requirement(line) for line in lines]
    return {re.sub(r"[-_.]+", "-", item.name).lower(): item for item in parsed}


def test_pins_lie_inside_the_ranges_of_the_package():
    package = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    optional = [line for lines in package["optional-dependencies"].values() for line in lines]
    ranges = requirements(package["dependencies"] + optional)
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    pins = requirements([line for line in lines if line and not line.startswith("#")])
    assert sorted(ranges.keys() - pins.keys()) == []
    for name, allowed in ranges.items():
        version = str(pins[name].specifier).removeprefix("==")
        assert allowed.specifier.contains(version), f"{name} {version} against {allowed.specifier}"


def flag_table(group: str) -> list[str]:
    """Rows of the README's table for one group of flags: name, default, help and choices."""
    rows = []
    for flag in (flag for flag in FLAGS.values() if flag.group == group):
        if isinstance(flag.default, bool):
            default = "on" if flag.default else "off"
        else:
            default = "–" if flag.default is None else f"`{flag.default}`"
        told = flag.help.replace("|", "\\|").replace("<", "&lt;")
        if not all(re.search(rf"\b{choice}\b", flag.help) for choice in flag.choices or ()):
            told += ": " + ", ".join(f"`{choice}`" for choice in flag.choices or ())
        rows.append(f"| `--{flag.name}` | {default} | {told} |")
    return rows


@pytest.mark.parametrize("group", sorted({flag.group for flag in FLAGS.values()}))
def test_flag_tables_of_the_readme_agree_with_the_code(group):
    wanted = "\n".join(flag_table(group))
    assert wanted in (ROOT / "README.md").read_text(), f"the table of {group} should read:\n{wanted}"


def test_readme_names_no_flag_that_does_not_exist():
    rows = re.findall(r"^\| `--(\w+)` ", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert sorted(rows) == sorted(FLAGS)


def test_flags_named_in_the_comparison_exist():
    named = set(re.findall(r"`--(\w+)", (ROOT / "docs/differences.md").read_text()))
    assert sorted(named - FLAGS.keys()) == []


def tracked() -> list[Path]:
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [path for name in listed.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def anchors(page: str) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def test_links_between_documents_resolve():
    broken = []
    for page in (path for path in tracked() if path.suffix == ".md"):
        for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
            if re.match(r"https?:|mailto:", target):
                continue
            name, _, anchor = target.partition("#")
            file = page.parent / name if name else page
            if not file.exists() or (anchor and anchor not in anchors(file.read_text(encoding="utf-8"))):
                broken.append(f"{page.relative_to(ROOT)}: {target}")
    assert broken == []


# Written in halves so that this file does not contain what it looks for.
PRIVATE = {
    "a package index": r"\b(?:pypi\.|files\.python" + r"hosted\.)org|--(?:extra-)?index-" + r"url",
    "a path of one machine": r"(?<![\w.])/(?:wo" + r"rk|ro" + r"ot|ho" + r"me/\w+)/",
    "a hub token": r"\bhf_" + r"[A-Za-z]{30,}\b",
    "an API key": r"\b(?:sk-" + r"(?:proj-)?[A-Za-z0-9]{32,}|AK" + r"IA[0-9A-Z]{16})\b",
    "a private key": "-----BEGIN [A-Z ]*PRIVATE" + " KEY-----",
}
TEXT = {".py", ".sh", ".md", ".toml", ".txt", ".yml", ".yaml", ".json", ".html", ".css", ".js", ".cfg", ""}


@pytest.mark.parametrize("what", PRIVATE)
def test_no_tracked_file_holds(what):
    pattern = re.compile(PRIVATE[what])
    found = []
    for path in tracked():
        if path.suffix in TEXT and path.stat().st_size < 5_000_000:
            match = pattern.search(path.read_text(encoding="utf-8", errors="replace"))
            if match:
                found.append(f"{path.relative_to(ROOT)}: {match.group()}")
    assert found == []
