"""Keeping what is fenced fenced: seeing that somebody changed it, saying who, and putting back what may be put back."""
