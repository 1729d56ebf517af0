"""Kubernetes: raw JSON in and out. Nothing is round-tripped through typed models, which drop unknown fields."""
