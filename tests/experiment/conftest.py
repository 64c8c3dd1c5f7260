"""A module that fails when it is imported, on purpose: it is no test, and has no examples."""

collect_ignore = ["broken_module.py"]
