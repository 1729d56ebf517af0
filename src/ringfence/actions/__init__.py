"""Containment: a module per family of actions, each plan / apply / verify / undo. Knows no playbooks, no evidence."""
