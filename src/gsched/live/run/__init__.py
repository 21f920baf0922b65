"""Workloads for real: the core and the policies of the simulator, with the wall clock."""
