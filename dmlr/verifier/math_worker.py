"""The process that runs math-verify: one JSON request per line on standard input, one JSON answer per line back.

Symbolic mathematics can take for ever or take all memory (`9**9**9**9`), so it never runs in the process of the run:
this one limits its own memory and its parent kills it when it is late. Started by `dmlr.verifier.math_process`.
"""

import json
import resource
import sys

MEMORY_LIMIT = 2 << 30  # bytes of address space; sympy itself needs about a tenth
SOFT_SECONDS = 2  # math-verify's own alarm, which saves the start of a new process where it works


def main() -> int:
    """Answer requests until standard input ends."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    from math_verify import parse, verify

    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        gold, answer = json.loads(line)
        try:
            left = parse(f"${gold}$", parsing_timeout=SOFT_SECONDS)
            right = parse(f"${answer}$", parsing_timeout=SOFT_SECONDS)
            # a side that only yields its own text was not understood
            understood = any(not isinstance(item, str) for item in left) and any(
                not isinstance(item, str) for item in right
            )
            equal = bool(verify(left, right, timeout_seconds=SOFT_SECONDS)) if understood else None
        except (Exception, MemoryError, RecursionError) as error:  # any failure means "not decided"
            print(json.dumps({"equal": None, "error": type(error).__name__}), flush=True)
            continue
        print(json.dumps({"equal": equal}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
