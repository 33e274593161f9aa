"""Where the work of stages is done: in this process, or in others."""
