"""What users type: each module parses a command line and calls the package."""
