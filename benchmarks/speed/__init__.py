"""How fast a step is, beside other ways to make the same step: `python -m benchmarks.speed`."""
