"""Backs up Docker volumes on schedule, deduplicated, and restores them with one command."""

__version__ = "0.1.0"
