"""Command line programs: each module parses a command line and calls the package."""

__all__: list[str] = []
