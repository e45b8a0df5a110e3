"""Speed of a training step, compared with other ways to make it: `python -m benchmarks.speed`."""
