"""Each module here has engines to itself."""

from tests.docker.own_engine import own_engine

__all__ = ["own_engine"]
