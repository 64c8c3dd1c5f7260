"""Specification files: TOML that becomes a `Spec`."""

from lianhe.experiment.config.load import LoadedSpec, load_spec

__all__ = ["LoadedSpec", "load_spec"]
