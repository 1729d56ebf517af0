"""Ringfence: the security-incident runbook of a Kubernetes platform, executed."""

__version__ = "0.1.0"
