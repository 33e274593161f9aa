"""Other servers that compute answers in place of this process."""
