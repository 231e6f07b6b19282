"""agent-magics: work with a coding agent from notebook cells."""

__version__ = "0.1.0"

__all__ = ["__version__"]
