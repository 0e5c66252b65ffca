"""Starts the embed job: what Dataflow, Flink and schedulers run. Accepts what `beamhub embed` accepts."""

from beamhub.cli import command

if __name__ == "__main__":
    command("embed")
