"""Collecting garbage without locks or clocks: sets, sessions and prune."""
