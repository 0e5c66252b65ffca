"""The input files: finding them, their columns, and reading them as Arrow record batches."""
