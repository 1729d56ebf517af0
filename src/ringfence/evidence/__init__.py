"""Collectors, vault and custody. Nothing is ever executed in the victim; Secrets are never read."""
