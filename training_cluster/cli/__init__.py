"""The `training-cluster` command: a thin layer over the Python client."""
