"""`/v1/fine_tuning/alpha/graders`: graders of `jangin.metrics.graders` over HTTP."""
