"""Studies: fair comparisons and searches over many runs, on Optuna."""
