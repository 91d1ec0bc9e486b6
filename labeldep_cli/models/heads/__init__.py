"""Heads, which map features to label logits: the paper's own, those of its rivals, and newer ones."""
