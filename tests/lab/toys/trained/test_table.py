"""The table of the trained toys: written by a command, so it must agree with the code and the
shipped checkpoints.
"""

import pytest

from mini_transformer import toys
from mini_transformer.toys.trained.shipped import list_seeds
from mini_transformer.toys.trained.table import PATH, describe_bound, list_shipped


def read_sections():
    sections = PATH.read_text().split("\n## ")[1:]
    return {section.splitlines()[0]: section.splitlines() for section in sections}


def test_every_trained_toy_has_a_section():
    assert list(read_sections()) == list_shipped()


@pytest.mark.parametrize("name", list_shipped())
def test_a_section_has_five_seeds_and_the_signatures_with_their_bounds_which_the_shipped_ones_meet(
    name,
):
    header, _, *rows = [line for line in read_sections()[name] if line.startswith("|")]
    seeds, shipped = [cell.strip() for cell in header.split("|")[3:-1]], len(list_seeds(name))
    assert seeds[:shipped] == [f"seed {seed}" for seed in list_seeds(name)]
    assert all(seed.endswith("*") for seed in seeds[shipped:])
    assert len(set(seeds)) == 5
    case = toys.load(name, list_seeds(name)[0])
    cells = [[cell.strip() for cell in row.split("|")[1:-1]] for row in rows]
    assert [row[:2] for row in cells] == [
        [each, describe_bound(case, each)] for each in case.truth.signatures
    ]
    for each, _, *measured in cells:
        signature = case.truth.signatures[each]
        slack = 1e-3 * max(1.0, abs(float(measured[0])))  # the table shows four digits
        assert all(
            signature.low - slack <= float(x) <= signature.high + slack for x in measured[:shipped]
        )
