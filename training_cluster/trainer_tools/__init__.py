"""Scripts that the trainer environment's Python runs; each stands alone and imports none of us."""
