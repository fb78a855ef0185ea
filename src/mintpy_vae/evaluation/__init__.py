"""Corrections compared on the user's own stack: weather models, filters and others beside this one; injected motion."""
