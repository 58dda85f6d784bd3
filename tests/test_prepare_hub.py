"""Loading from a hub (a local server in its place): renamed ids, one split only, raw files, revisions, no network."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from benchmark_rows import SCHEMAS, picture, upstream
from hub_server import COMMIT, HubServer

CARD = """---
configs:
- config_name: default
  data_files:
  - split: test
    path: data/test-*
- config_name: Full
  data_files:
  - split: random
    path: Full/random-*
  - split: popular
    path: Full/popular-*
---
"""
# As the hub's own writer stores it: the schema says which column is an image.
FEATURES = {name: {"dtype": "string", "_type": "Value"} for name in SCHEMAS["pope"].names[:-1]}
FEATURES["image"] = {"_type": "Image"}


def write_repository(folder: Path) -> Path:
    schema = SCHEMAS["pope"].with_metadata({"huggingface": json.dumps({"info": {"features": FEATURES}})})
    for name, category in (("data/test", "random"), ("Full/random", "random"), ("Full/popular", "popular")):
        rows = [
            upstream("pope", question_id=str(i), answer=word, category=category, image_source=f"COCO_{i}")
            for i, word in enumerate(("yes", "no"))
        ]
        path = folder / f"{name}-00000-of-00001.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(rows, schema), path)
    (folder / "README.md").write_text(CARD)
    return folder


def run(tmp_path: Path, endpoint: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`dmlr prepare` in a process of its own: the hub library reads HF_ENDPOINT when it is imported."""
    hidden = {"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"}
    environment = {key: value for key, value in os.environ.items() if key not in hidden}
    environment |= {"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1"}
    environment |= {"HF_HUB_DISABLE_TELEMETRY": "1", "NO_PROXY": "*", "no_proxy": "*"}
    code = (
        "import sys\nfrom dmlr.benchmarks.command import main\nfrom dmlr.errors import UserError\n"
        "try:\n    sys.exit(main(sys.argv[1:]))\n"
        "except UserError as error:\n    print(*error.problems, sep='\\n', file=sys.stderr)\n    sys.exit(2)\n"
    )
    command = [sys.executable, "-c", code, *arguments, "--out", str(tmp_path / "data")]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280)


def test_the_old_id_is_tried_and_only_one_split_is_fetched(tmp_path: Path) -> None:
    folder = write_repository(tmp_path / "repository")
    with HubServer({"lmms-lab/POPE": folder}) as hub:
        result = run(tmp_path, hub.url, "pope", "--split", "popular")
    assert result.returncode == 0, result.stderr
    rows = json.loads((tmp_path / "data/pope_popular.json").read_text())
    assert [row["id"] for row in rows] == ["popular-0", "popular-1"]
    assert rows[0]["source"] == {
        "revision": COMMIT,
        "repo": "lmms-lab/POPE",
        "config": "Full",
        "split": "popular",
    }
    first = upstream("pope", question_id="0", answer="yes", category="popular", image_source="COCO_0")
    assert (tmp_path / "data" / rows[0]["image_path"]).read_bytes() == first["image"]["bytes"]
    fetched = [line for line in hub.requests if ".parquet" in line]
    assert fetched
    assert all("Full/popular" in line for line in fetched)
    assert any("lmms-lab-encoder/POPE" in line for line in hub.requests)


def test_mm_math_fetches_its_two_raw_files(tmp_path: Path) -> None:
    import zipfile

    folder = tmp_path / "repository/MM_Math"
    folder.mkdir(parents=True)
    line = {
        "question": "q",
        "file_name": "1.png",
        "solution": "\\boxed{2}",
        "year": "nine",
        "difficult": "hard",
    }
    (folder / "MM_Math.jsonl").write_text(json.dumps(line) + "\n")
    (folder / "other.png").write_bytes(picture(2))
    with zipfile.ZipFile(folder / "MM_Math.zip", "w") as archive:
        archive.writestr("MM_Math/1.png", picture(1))
    with HubServer({"THU-KEG/MM_Math": folder.parent}) as hub:
        result = run(tmp_path, hub.url, "mm_math")
    assert result.returncode == 0, result.stderr
    (row,) = json.loads((tmp_path / "data/mm_math.json").read_text())
    assert (row["solution"], row["source"]["revision"]) == ("\\boxed{2}", COMMIT)
    assert (tmp_path / "data" / row["image_path"]).read_bytes() == picture(1)
    assert not any("other.png" in request for request in hub.requests)


def test_unknown_ids_and_revisions_are_one_line(tmp_path: Path) -> None:
    with HubServer({"Lin-Chen/MMStar": tmp_path}) as hub:
        unknown = run(tmp_path, hub.url, "pope")
        revision = run(tmp_path, hub.url, "mmstar", "--revision", "v9")
    assert unknown.returncode == revision.returncode == 2
    (line,) = unknown.stderr.splitlines()
    assert "lmms-lab-encoder/POPE, lmms-lab/POPE" in line
    assert "HF_ENDPOINT" in line
    (line,) = revision.stderr.splitlines()
    assert line == "Lin-Chen/MMStar: no revision 'v9' on the hub; give a commit, branch or tag"


@pytest.mark.parametrize("name", ["scienceqa", "mm_math"])
def test_without_network_one_line_says_what_to_do(tmp_path: Path, name: str) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{free.getsockname()[1]}"
    result = run(tmp_path, endpoint, name)
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    repo = {"scienceqa": "lmms-lab-encoder/ScienceQA", "mm_math": "THU-KEG/MM_Math"}[name]
    assert line.startswith(f"{repo}: the hub at {endpoint} cannot be reached")
    assert "HF_ENDPOINT" in line
    assert "--from DIR" in line
    assert not (tmp_path / "data").exists()
