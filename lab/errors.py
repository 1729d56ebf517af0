"""What the lab says when it cannot go on."""

from __future__ import annotations


class LabError(Exception):
    """Something went wrong; the text says what, why, and what to do next."""


class UnsupportedMachine(LabError):
    """This machine cannot carry a lab at all (not Linux, not root, a program that cannot be installed)."""
