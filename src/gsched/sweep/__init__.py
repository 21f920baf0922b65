"""Sweeps: many simulations, over policies, GPUs, loads, seeds and workloads, each schedule checked."""
