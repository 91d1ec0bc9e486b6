"""The device, the processes that compute together, precision."""
