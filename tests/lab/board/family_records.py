"""What the record of every family must say."""

import inspect

from mini_transformer.board.families import find_family


def check_record(name: str) -> None:
    record = find_family(name)
    meanings = [*record.parameters.values(), *record.options.values(), *record.metrics.values()]
    assert all(len(meaning) > 10 for meaning in meanings), meanings
    assert record.headline in record.metrics
    assert set(record.quick) <= set(record.names)
    assert set(record.shipped) <= set(record.names)
    assert not set(record.entrants) & {*record.references, "random", "oracle"}
    assert len(record.references) >= 4
    assert record.models >= 3
    for method in {**record.entrants, **record.references}.values():
        named = inspect.signature(method).parameters
        inspect.signature(method).bind(*record.parameters)
        assert set(named) & set(record.options) <= set(record.options)
