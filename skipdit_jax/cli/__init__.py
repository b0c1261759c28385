"""Command lines: the only place that reads flags, prints, chooses and exits."""
