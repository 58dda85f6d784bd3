"""Proof 9: every flag changes what it says it changes (or warns). One row per flag; a flag without a row fails.

The rows are functions in `flag_rows_engine.py` and `flag_rows_run.py`.
"""

import pytest

pytest.register_assert_rewrite("flag_rows_engine", "flag_rows_run")

import flag_rows_engine  # noqa: E402, F401  (importing them fills the table)
import flag_rows_run  # noqa: E402, F401
from flag_tools import CHECKS, Tools  # noqa: E402

from dmlr.config import FLAGS  # noqa: E402


@pytest.fixture
def tools(tiny, samples, config, tmp_path, monkeypatch, capsys):
    return Tools(tiny, samples, config, tmp_path, monkeypatch, capsys)


@pytest.mark.parametrize("name", FLAGS)
def test_flag_changes_what_it_says(name, tools):
    assert name in CHECKS, f"--{name} is new: add its row to this table"
    CHECKS[name](tools)


def test_the_table_has_no_row_without_a_flag():
    assert CHECKS.keys() <= FLAGS.keys()
