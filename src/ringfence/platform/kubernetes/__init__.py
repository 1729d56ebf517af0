"""Kubernetes: raw JSON in and out. Nothing is round-tripped through typed models, which drop unknown fields."""

from ringfence.platform import slim

# Neither HTTP/2 nor asynchronous calls are made here; their libraries take 0.03 s to import at the start of a command.
with slim.without("h2"), slim.without("anyio"):
    import httpcore2  # noqa: F401

# Of lightkube only the kubeconfig and the authentication are used, neither its clients nor its models.
with slim.bare("lightkube"), slim.hollow("lightkube.core.internal_models", "meta_v1"):
    import lightkube.config.client_adapter  # noqa: F401
