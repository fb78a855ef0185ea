"""From a stack on disk to a corrected project, a delay file, or MintPy's workflow with the step ``correct_vae``."""
