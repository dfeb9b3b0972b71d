"""Tests of the planner: pure, no store and no event loop."""
