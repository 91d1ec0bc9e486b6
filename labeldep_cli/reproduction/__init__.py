"""The paper's tables: which networks they need, what these cost, how they are trained, and their scores."""
