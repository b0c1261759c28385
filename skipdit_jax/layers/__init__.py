"""The one set of layers that all model families share."""
