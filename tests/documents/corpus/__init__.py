"""Small office files of our own making, each with the text that a person reads in it."""
