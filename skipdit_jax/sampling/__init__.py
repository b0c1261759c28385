"""Sampling: pure steps, guidance, the loop and its drivers. Sees a network only as functions."""
