"""Tools that know nothing of classifiers and attacks; each module is imported by its own name."""
