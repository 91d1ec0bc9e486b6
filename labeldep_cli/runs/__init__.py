"""Everything about the contents of a run's folder."""
