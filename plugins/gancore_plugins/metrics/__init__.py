"""Built-in metrics. What they compute is left to torch-fidelity wherever that has it."""
