"""Label-set metrics, thresholds and evaluation."""
