"""`python -m lianhe.cli` is `lianhe`."""

from lianhe.cli import main

main()
