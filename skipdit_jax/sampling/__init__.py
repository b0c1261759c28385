"""Sampling: pure steps, guidance and the loop that runs them. Sees a network only as functions."""
