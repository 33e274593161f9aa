"""Who may do what: keys, projects, browsers, limits, the audit log."""
