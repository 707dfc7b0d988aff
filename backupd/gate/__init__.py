"""The gate: a Docker authorization plugin that lets no protected volume go unsaved.

It needs nothing but the standard library and starts in a moment, because while it is away the engine answers
nobody.
"""
