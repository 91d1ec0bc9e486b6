"""What turns features into label logits: the paper's own head, its rivals' and today's."""
