"""The durable engine: what was begun is carried on after a crash. A port (``port``) and its one implementation.

What the engine stores is disposable run state in a database of its own; the truth is in ``store``. Nothing outside
this room imports the library behind it.
"""
