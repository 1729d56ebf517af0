"""NetworkPolicy for the lab's node: watches the API server, writes nftables rules into the node's network namespace.

The way of the data: ``watch`` (objects) → ``model`` (typed facts) → ``resolve`` (who may talk to whom) → ``render``
(nftables text) → ``kernel`` (one atomic replacement) → ``status`` (what is in force). ``records`` feeds the DNS pod
from the same watches. Semantics: networking.k8s.io/v1 NetworkPolicy, IPv4.
"""
