"""`python -m archdsl` is the program `archdsl`."""

from archdsl.cli import main

main()
