"""Other people's APIs over the same jobs, datasets and models: each a translation, nothing more.

A dialect is `to_spec` (its request into ours), `from_job` (ours into its answer) and a router. What
it must remember of a request lies beside the job (`domain/dialect.py`).
"""
