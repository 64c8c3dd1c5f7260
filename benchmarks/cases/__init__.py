"""The cases of benchmarks/multitask.py."""
