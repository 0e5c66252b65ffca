"""Starts the extract job: what Dataflow, Flink and schedulers run. Accepts what `beamhub extract` accepts."""

from beamhub.cli import command

if __name__ == "__main__":
    command("extract")
