"""Run code that nobody has read, and lose nothing when something crashes.

Child processes (`child`, `per_thread`, `cluster`), limits, sentences about exceptions, and files
and journals that survive a kill. Board and course stand on this ground.
"""
