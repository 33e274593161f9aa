"""Tables, prompts and token rows as `jangin show` prints them."""
