"""Judging needs no model: neither importing nor using it loads torch, and the rules alone load no client either."""

import json
import subprocess
import sys

SCRIPT = """
import json, sys
from pathlib import Path
from dmlr.verifier import Verifier, verify
import dmlr.verifier.command
from dmlr.verifier.reverify import reverify

assert verify("\\\\boxed{C}", "C. 12", "Q?\\nOptions:\\nA. 10\\nB. 11\\nC. 12").verdict == "correct"
verifier = Verifier()
reverify(Path(sys.argv[1]), None, verifier)
verifier.close()
heavy = ("torch", "transformers", "openai", "sympy", "scipy", "datasets", "pyarrow", "ray")
print(json.dumps([name for name in heavy if name in sys.modules]))
"""


def test_nothing_heavy_is_imported(tmp_path):
    dataset = tmp_path / "rows.json"
    dataset.write_text(json.dumps([{"prompt": "2+2?", "solution": "4"}]))
    entries = [{"data_idx": 0, "question": "2+2?", "model_output": "\\boxed{4}"}]
    (tmp_path / "results.json").write_text(json.dumps({"dataset": str(dataset), "entries": entries}))
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []
