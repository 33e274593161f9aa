"""Fine-tuning jobs: routes, scheduler, worker process, events and result files."""
