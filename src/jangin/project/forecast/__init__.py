"""What a run would cost before anything has run: stages are estimated one from another."""
