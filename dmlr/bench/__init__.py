"""Speed measurements: the fast path against the naive one and against what the hardware allows. Ours."""
