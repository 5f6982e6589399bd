"""Run code that nobody has read: child processes, limits, files that survive a crash.

Board and course stand on this ground.
"""
