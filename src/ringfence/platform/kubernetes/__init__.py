"""Kubernetes: raw JSON in and out. Nothing is round-tripped through typed models, which drop unknown fields."""

from ringfence.platform import slim

with slim.without("h2"):  # HTTP/2 is not spoken here, and takes 0.02 s to import at the start of every command
    import httpcore2  # noqa: F401
