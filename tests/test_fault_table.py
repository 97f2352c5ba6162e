"""The catalogue of faults: each has its test, and the table says which."""

import pytest

from tests.faults import CATALOGUE, NOT_APPLICABLE, TABLE, citations, cited_in, table


def test_each_fault_has_a_test_or_a_reason_why_it_cannot_happen():
    cited = citations()
    assert sorted(CATALOGUE.keys() - cited.keys() - NOT_APPLICABLE.keys()) == []
    assert sorted(cited.keys() - CATALOGUE.keys()) == []
    assert sorted(NOT_APPLICABLE.keys() & cited.keys()) == []
    assert all(NOT_APPLICABLE.values())


def test_the_table_is_what_the_tests_say():
    assert TABLE.read_text(encoding="utf-8") == table(), "run: python -m tests.faults"


@pytest.mark.parametrize(
    ("name", "numbers"),
    [
        ("test_fault_057_expired", ["057"]),
        ("test_fault_142_143_144_and_148_a_url", ["142", "143", "144", "148"]),
        ("test_faults_127_to_130_whatever", ["127", "128", "129", "130"]),
        ("test_fault_106b_before", ["106b"]),
        ("test_fault_045_5000_items", ["045"]),
        ("fault_092_step_1", ["092"]),
        ("test_faulty", []),
        ("test_what_fault_057_is", []),
    ],
)
def test_numbers_are_read_from_names(name, numbers):
    assert cited_in(name) == numbers
