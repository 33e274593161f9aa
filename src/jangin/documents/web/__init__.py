"""Readers of HTML and of what wraps it: web pages, e-books, mails."""
