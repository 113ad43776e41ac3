"""`python -m parties` is `party`."""

from parties.cli import main

main()
