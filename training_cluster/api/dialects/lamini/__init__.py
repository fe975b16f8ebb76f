"""Lamini's API over our jobs and datasets."""
