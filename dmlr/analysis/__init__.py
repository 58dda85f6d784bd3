"""The two analyses behind the method, and the score of its patches against known evidence, on finished runs.

`replay.py` rebuilds the exact sequence of every entry, `teacher.py` scores continuations of it in one
forward, `perturb.py` spoils images; `visual.py`, `confidence.py` and `evidence.py` are the analyses.
"""
