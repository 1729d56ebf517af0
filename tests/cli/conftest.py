"""What the tests of the command line share."""

from tests.cli.console import console

__all__ = ["console"]
