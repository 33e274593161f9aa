"""Follow: the pipeline with what it would cost, running stages live, the history of runs."""
