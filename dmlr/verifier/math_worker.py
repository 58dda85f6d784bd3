"""The process that runs math-verify: one JSON request per line on standard input, one JSON answer per line back.

Symbolic mathematics can take for ever or take all memory (`9**9**9**9`), so it never runs in the process of the run:
this one limits its own memory and its parent kills it when it is late. Started by `dmlr.verifier.math_process`.
"""

import json
import logging
import resource
import sys
from typing import Any

MEMORY_LIMIT = 2 << 30  # bytes of address space; sympy itself needs about a tenth


def main() -> int:
    """Answer requests until standard input ends."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    logging.disable(logging.CRITICAL)
    from math_verify import parse, verify

    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        gold, answer = json.loads(line)
        # no time limit of math-verify's own: it turns a late comparison into "not equal"
        try:
            left = parse(f"${gold}$", parsing_timeout=None)
            right = parse(f"${answer}$", parsing_timeout=None)
            equal = True if verify(left, right, timeout_seconds=None) else _surely_different(left, right)
        except (Exception, MemoryError, RecursionError) as error:  # any failure means "not decided"
            print(json.dumps({"equal": None, "error": type(error).__name__}), flush=True)
            continue
        print(json.dumps({"equal": equal}), flush=True)
    return 0


def _surely_different(left: list[Any], right: list[Any]) -> bool | None:
    """False when the two expressions have different values somewhere; None when that cannot be seen.

    math-verify says "not equal" of anything it did not understand, so that alone decides nothing.
    """
    import sympy

    if not left or not right or not all(isinstance(side[0], sympy.Expr) for side in (left, right)):
        return None
    first, second = left[0], right[0]
    symbols = sorted(first.free_symbols | second.free_symbols, key=str)
    for point in (sympy.Rational(7, 5), sympy.Rational(19, 7)):
        values = {symbol: point + sympy.Rational(i, 3) for i, symbol in enumerate(symbols)}
        numbers = [complex(sympy.N(side.subs(values))) for side in (first, second)]
        if abs(numbers[0] - numbers[1]) > 1e-6 * max(1.0, *map(abs, numbers)):
            return False
    return None


if __name__ == "__main__":
    sys.exit(main())
