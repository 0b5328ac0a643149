"""llm4rec: recommendation with language models, reproduced and compared fairly from one command line."""

__version__ = "0.1.0"
