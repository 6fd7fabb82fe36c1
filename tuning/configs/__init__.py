"""Configs of searches that come with the library."""
