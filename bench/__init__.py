"""Benchmarks: ratios measured in one run, against the bare requests or against what a person would type."""
