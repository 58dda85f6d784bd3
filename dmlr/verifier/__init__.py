r"""Judging answers: `verify` by rules, `Verifier` by rules and then an LLM judge. Needs no torch.

>>> from dmlr.verifier import verify
>>> verify("so it is \\boxed{72^\\circ}", "C. $72^{\\circ}$").verdict
'correct'
"""

from dmlr.verifier.combined import Verifier, make_verifier
from dmlr.verifier.rules import verify
from dmlr.verifier.verdict import Verdict

__all__ = ["Verdict", "Verifier", "make_verifier", "verify"]
