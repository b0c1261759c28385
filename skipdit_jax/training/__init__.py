"""Training: state, optimiser, one pure step, one loop. Models are seen only as functions."""
