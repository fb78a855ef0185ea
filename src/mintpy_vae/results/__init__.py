"""Files of a corrected project that are read again: the evidence of the method and MintPy's time series."""
