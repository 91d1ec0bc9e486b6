"""Benchmarks of labeldep: `python -m benchmarks NAME`. The measured results are in RESULTS.md."""
