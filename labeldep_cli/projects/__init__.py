"""A data set opened with a backbone on a machine."""
