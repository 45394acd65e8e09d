"""Option files: schema, loading, checking."""
