"""The paper's tables: matrix, cost, training, scores."""
