"""The cache of rows that leave and join, by hand: one head, one number a key."""

from __future__ import annotations

import torch
from transformers.cache_utils import Cache, DynamicCache

from sftlib.measure.row_cache import arrange


def read(*rows: list[float], layers: int = 1) -> DynamicCache:
    """A cache as prompts leave it: each row from column 0 on. Values are ten times the keys, two numbers wide."""
    cache = DynamicCache()
    for layer in range(layers):
        keys = torch.tensor(rows)[:, None, :, None] + 100 * layer
        cache.update(keys, (keys * 10).expand(-1, -1, -1, 2), layer)
    return cache


def shown(cache: Cache, layer: int = 0) -> list[list[float]]:
    values = cache.layers[layer].values
    assert torch.equal(values, (cache.layers[layer].keys * 10).expand_as(values))
    return cache.layers[layer].keys[:, 0, :, 0].tolist()


def test_rows_end_at_the_same_column():
    cache = arrange(None, [], [2, 3], read([1, 2, -9], [4, 5, 6]), spare=2)
    assert shown(cache) == [[0, 1, 2], [4, 5, 6]]  # what stood behind a row is gone


def test_a_token_is_written_without_a_copy_until_the_columns_are_used_up():
    cache = arrange(None, [], [2, 3], read([1, 2, -9], [4, 5, 6]), spare=2)
    place = cache.layers[0].keys.data_ptr()
    for said in (7.0, 8.0):
        keys, _ = cache.update(torch.full((2, 1, 1, 1), said), torch.full((2, 1, 1, 2), said * 10), 0)
    assert keys.data_ptr() == place
    assert shown(cache) == [[0, 1, 2, 7, 8], [4, 5, 6, 7, 8]]
    assert cache.get_seq_length() == 5


def test_a_row_leaves_a_shorter_one_joins_and_no_column_is_kept_for_who_left():
    cache = arrange(None, [], [5, 3, 2], read([1, 2, 3, 4, 5], [6, 7, 8, -9, -9], [1, 1, -9, -9, -9]), spare=1)
    cache = arrange(cache, [1], [3, 2], read([4, 4, -9]), spare=1)
    assert shown(cache) == [[6, 7, 8], [0, 4, 4]]


def test_a_row_longer_than_those_that_stay_may_join():
    cache = arrange(None, [], [1, 2], read([1, -9], [2, 3]), spare=1)
    cache = arrange(cache, [1, 0], [2, 1, 4], read([5, 6, 7, 8]), spare=1)
    assert shown(cache) == [[0, 0, 2, 3], [0, 0, 0, 1], [5, 6, 7, 8]]


def test_every_layer_has_its_own():
    cache = arrange(None, [], [1], read([1], layers=2), spare=1)
    assert [shown(cache, layer) for layer in (0, 1)] == [[[1]], [[101]]]
