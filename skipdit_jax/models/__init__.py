"""Backbones: embed, run a range of stages, head. They know nothing of how they are used."""
