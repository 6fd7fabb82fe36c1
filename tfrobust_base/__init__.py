"""Provides what the library and its commands share and what works without TensorFlow."""
