"""The command line: `lianhe --help`."""

from lianhe.cli.app import main

__all__ = ["main"]
