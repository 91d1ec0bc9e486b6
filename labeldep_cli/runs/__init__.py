"""All that knows a run's folder."""
