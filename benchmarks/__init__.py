"""Benchmarks of labeldep: `python -m benchmarks NAME`; what was measured stands in RESULTS.md."""
