"""A store that several machines share through an object store, by a URL such as `s3://bucket/a`."""
