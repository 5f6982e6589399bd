"""A save is noticed once, also by editors that replace the file."""

from itertools import islice

from mini_transformer.course.learner.watching import take_stamps, watch_files


def test_each_save_is_noticed_once_and_a_file_that_is_being_replaced_is_waited_for(tmp_path):
    first, second = tmp_path / "first.py", tmp_path / "second.py"
    for path in (first, second):
        path.write_text("")
    moments = iter(
        [
            lambda: None,
            lambda: first.write_text("a"),
            lambda: (first.unlink(), second.write_text("b")),
            lambda: first.write_text("new"),
        ]
    )
    seen = list(islice(watch_files([first, second], lambda _: next(moments)()), 3))
    assert seen == [[first], [second], [first]]


def test_a_file_that_comes_back_as_it_was_is_no_save(tmp_path):
    path, aside = tmp_path / "a.py", tmp_path / "aside.py"
    path.write_text("a")
    before = take_stamps([path])
    moments = iter([lambda: path.rename(aside), lambda: aside.rename(path), lambda: 1 / 0])
    watching = watch_files([path], lambda _: next(moments)())
    try:
        next(watching)
    except ZeroDivisionError:
        pass
    else:
        raise AssertionError("a rename was taken for a save")
    assert take_stamps([path]) == before
