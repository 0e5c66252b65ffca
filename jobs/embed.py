"""Starts the embed job: what Dataflow, Flink and schedulers run. Accepts what `beamhub embed` accepts."""

import sys

from beamhub.cli import main

if __name__ == "__main__":
    sys.exit(main(["embed", *sys.argv[1:]]))
