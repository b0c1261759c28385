"""Command lines: the only place that reads flags, prints and exits, and where the parts meet."""
