"""The feature table: where it lies, how shards get into it, and how it is read.

Neither Beam nor TensorFlow is imported here, so that tables are read with Arrow and NumPy alone.
"""
