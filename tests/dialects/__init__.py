"""What the dialects promise their clients."""
