"""`python -m jangin.cli`: the command line without an installed script."""

from jangin.cli.main import main

main()
