"""Starts the detect job: what Dataflow, Flink and schedulers run. Accepts what `beamhub detect` accepts."""

import sys

from beamhub.cli import main

if __name__ == "__main__":
    sys.exit(main(["detect", *sys.argv[1:]]))
