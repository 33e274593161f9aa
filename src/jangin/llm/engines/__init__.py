"""Inference engines outside this process: vLLM, started and stopped here, or a running endpoint."""
