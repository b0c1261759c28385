"""Caching: policies make plans on the host, an engine is traced once; one file for each method."""
