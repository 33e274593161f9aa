"""Graders of OpenAI's API: rewards of answers, as the server and evaluations use them."""
