"""Starts the extract job: what Dataflow, Flink and schedulers run. Accepts what `beamhub extract` accepts."""

import sys

from beamhub.cli import main

if __name__ == "__main__":
    sys.exit(main(["extract", *sys.argv[1:]]))
