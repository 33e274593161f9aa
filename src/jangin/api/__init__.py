"""The Python interface: projects, tables and models as objects. `import jangin` is its door."""
