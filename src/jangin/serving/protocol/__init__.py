"""The conventions of the API: errors, ids, pages of lists, checked request bodies, headers."""
