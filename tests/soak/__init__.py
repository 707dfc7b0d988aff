"""Half an hour of random kills, and what must be true afterwards."""
