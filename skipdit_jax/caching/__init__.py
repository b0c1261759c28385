"""Caching: plans made on the host, an engine traced once, drivers over the sampling steps."""
