"""Losses, steps, the training loop, checkpoints."""
