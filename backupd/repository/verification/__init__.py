"""Whether a repository is whole, and what is damaged."""
