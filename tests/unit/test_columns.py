"""Tables of the command line."""

from __future__ import annotations

from gateway.cli.columns import Column, aligned, letters, lines


def test_names_stand_left_and_numbers_right() -> None:
    columns = [Column(name="NAME"), Column(name="CALLS", is_number=True)]
    assert list(lines(columns, [("a", "1"), ("longer", "12,345")])) == [
        "NAME     CALLS",
        "a            1",
        "longer  12,345",
    ]


def test_wide_letters_take_two_columns_and_marks_none() -> None:
    assert [letters(text) for text in ("abc", "שלום", "中文", "e\u0301", "a\u200cb", "🙂")] == [
        3,
        4,
        4,
        1,
        2,
        2,
    ]
    table = aligned([Column(name="TITLE"), Column(name="X")], [("中文", "1"), ("six678", "2")])
    assert {letters(row[0]) for row in table} == {6}


def test_only_a_column_with_a_bound_is_cut() -> None:
    columns = [Column(name="T", most=5), Column(name="N", is_number=True, least=4)]
    assert list(lines(columns, [("abcdefgh", "123456"), ("中文字", "1"), ("exact", "2")])) == [
        "T           N",
        "abcd…  123456",
        "中文…       1",
        "exact       2",
    ]
    assert list(lines([Column(name="T", most=5)], [("中中中",)])) == ["T", "中中…"]
