"""Provides tools that are independent of classifiers and attacks; each module is imported by its own name."""
