"""The shard engine: plans a run, computes shards, keeps a run's papers. Knows nothing of Beam."""
