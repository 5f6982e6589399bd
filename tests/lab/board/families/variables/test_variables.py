"""The record of variables problems says what each of its words means."""

from family_records import check_record


def test_the_record_is_complete():
    check_record("variables")
