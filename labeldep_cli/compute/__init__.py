"""Devices, distributed processes, precision."""
