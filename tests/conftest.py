"""For all tests: a property is about what happens, never about how long a busy machine takes for it."""

from hypothesis import settings

settings.register_profile("tinyvla", deadline=None)
settings.load_profile("tinyvla")
