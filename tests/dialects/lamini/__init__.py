"""Lamini's dialect: its translation, its documents field by field, its real clients."""
