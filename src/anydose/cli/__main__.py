"""python -m anydose.cli: the command, where a launcher such as torchrun starts it."""

from anydose.cli.app import main

main()
