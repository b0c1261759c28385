"""Judges of the bundled digits and moving digits: classifiers fitted on the real ones."""
