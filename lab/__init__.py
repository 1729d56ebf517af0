"""A real Kubernetes with a small bank and an attacker, on one Linux machine: what tests, demo and benchmarks run on."""
