"""Settings of caching methods, measured on a model: a few samples without cache tell them."""
