"""Which submissions are alike, and which are what the course ships."""

from mini_transformer.course.lecturer.alike import find_alike, find_shipped, read_form

LONG = "\n".join(f"    v{i} = x[{i}] * {i + 3} + weight(v{i}, {i})" for i in range(12))
OTHER = "\n".join(f"    total += scale[{i}] / (y - {i}) ** power" for i in range(12))


def test_comments_docstrings_and_spaces_do_not_hide_a_copy():
    disguised = LONG.replace(" * ", "*").replace("\n", "  # mine\n")
    forms = {"ann": LONG, "bob": f'    """Mine."""\n{disguised}', "cid": OTHER}
    (found,) = find_alike("01", {name: read_form(text) for name, text in forms.items()})
    assert found.students == ("ann", "bob")
    assert found.share == 1


def test_a_copy_with_one_line_changed_is_near_and_a_short_answer_counts_for_nothing():
    changed = LONG.replace("    v7 = x[7]", "    v7 = z[7]")
    short = {"dee": "    return x", "eve": "    return x"}
    forms = {"ann": LONG, "bob": changed, "cid": OTHER, **short}
    (found,) = find_alike("01", {name: read_form(text) for name, text in forms.items()})
    assert found.students == ("ann", "bob")
    assert 0.9 <= found.share < 1


def test_nobody_is_alike_in_an_empty_class():
    assert find_alike("01", {}) == []


def test_the_shipped_solution_is_named():
    forms = {"double": read_form(LONG), "add": read_form(OTHER)}
    shipped = {"double": {read_form(LONG + "  # ours")}, "add": {read_form(LONG)}}
    assert find_shipped(forms, shipped) == ["double"]
