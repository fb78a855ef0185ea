"""A MintPy project directory: its templates, its steps, what its user knows, and the corrected copy beside it."""
