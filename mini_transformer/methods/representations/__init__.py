"""Find what activations represent: probes, erasure, alignment of variables, dictionaries."""
