"""Tests of twinpool that drive the real binary over real HTTP."""
