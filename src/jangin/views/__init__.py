"""Figures of a page, made once from what stages left: report, workbench and terminal draw them."""
