"""Fixtures of the adapters' tests."""

from tests.adapters.tracker_environment import tracker_python

__all__ = ["tracker_python"]
