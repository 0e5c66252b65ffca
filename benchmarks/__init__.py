"""Benchmarks: beamhub beside hand-written TensorFlow and beside its peers. `python -m benchmarks --help`."""
