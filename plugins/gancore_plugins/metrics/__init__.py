"""Built-in metrics, computed by torch-fidelity where it has them."""
