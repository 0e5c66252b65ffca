from __future__ import annotations

from dataclasses import replace

import pytest

from beamhub.corpus.shard_list import ShardList
from beamhub.corpus.shards import WHOLE, Shard


def test_shards_as_columns_are_the_shards() -> None:
    many = [
        Shard(f"/c/d={n % 3}/{n}", f"d={n % 3}/{n}", n, f"t{n % 5}", 0, WHOLE if n % 2 else n) for n in range(40_000)
    ]

    columns = ShardList.of(many)

    assert list(columns) == many
    assert [f"{number:016x}" for number in columns.ids.tolist()] == [shard.id for shard in many]
    assert columns[-1] == many[-1]
    assert columns[10:40_000:7] == many[10::7]
    assert columns.paths().to_pylist() == [shard.path for shard in many]
    assert columns.partitions() == {"d=0", "d=1", "d=2"}
    assert columns.is_range.tolist() == [shard.is_range for shard in many]
    assert columns.lies_below("/c/d=1")
    assert columns.lies_below("/c")
    assert not columns.lies_below("/c/d")
    assert not columns.lies_below("/c/d=1/1/x")
    with pytest.raises(ValueError, match="below one root"):
        ShardList.of([many[0], replace(many[1], path="/elsewhere/1")])
