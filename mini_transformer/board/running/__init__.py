"""Run jobs, each in a child process, on the cores of this machine or on a cluster."""
