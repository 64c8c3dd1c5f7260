import tomllib

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from lianhe.experiment.config.locate import Lines

DOCUMENT = '''\
# a comment with [brackets] and = signs
kind = "tasks"          # [not.a.table]
"quoted key" = 1
'it''s' = 2
dotted . "two words".c = 3
multi = """
[not.a.table]
rounds = 7 ""\\""""
raw = \'\'\'
[[no]]
it\'s\'\'\'\'\'
day = 1979-05-27 07:32:00
list = [ # why
  1,
  [2, 3], # ]
  {a = 1, b = ["x", "]"]},
  "a,b",
]
[training]
aggregator = {name = "cagrad", c = 0.4, nested = {d = [1]}}
[training . "local"]
lr = 1
[[tasks]]
name = "one"
[tasks.options]
a = 1
[[tasks.parts]]
p = 1
[[tasks.parts]]
p = 2
[[tasks]]
name = "two"
metrics = ["auroc",
           "f1"]
[tasks.options]
a = 2
[[tasks.parts]]
p = 3
'''.replace("'it''s'", "'its'")

EXPECTED = {
    ("kind",): 2,
    ("quoted key",): 3,
    ("its",): 4,
    ("dotted", "two words", "c"): 5,
    ("multi",): 6,
    ("raw",): 9,
    ("day",): 12,
    ("list", 0): 14,
    ("list", 1, 1): 15,
    ("list", 2, "b", 1): 16,
    ("list", 3): 17,
    ("training", "aggregator", "c"): 20,
    ("training", "aggregator", "nested", "d", 0): 20,
    ("training", "local"): 21,
    ("training", "local", "lr"): 22,
    ("tasks", 0, "options", "a"): 26,
    ("tasks", 0, "parts", 1, "p"): 30,
    ("tasks", 1): 31,
    ("tasks", 1, "metrics", 1): 34,
    ("tasks", 1, "options", "a"): 36,
    ("tasks", 1, "parts", 0, "p"): 38,
}


@pytest.mark.parametrize(("path", "line"), EXPECTED.items())
def test_finds_the_line_of_every_kind_of_key(path, line):
    assert Lines(DOCUMENT).of(path) == line


def test_every_key_that_tomllib_reads_has_a_line():
    lines = Lines(DOCUMENT)
    assert set(paths(tomllib.loads(DOCUMENT))) <= set(lines._lines)


def test_a_missing_key_is_sought_in_the_innermost_table_around_it():
    lines = Lines(DOCUMENT)
    assert lines.of(("tasks", 1, "loss")) == 31
    assert lines.of(("training", "aggregator", "k")) == 20
    assert lines.of(("nowhere",)) is None


def test_windows_line_ends():
    assert Lines("a = 1\r\n[b]\r\nc = [\r\n1,\r\n2]\r\n").of(("b", "c", 1)) == 5


names = st.text(min_size=1, max_size=8)
scalars = st.one_of(
    st.booleans(),
    st.integers(-(2**40), 2**40),
    st.floats(allow_nan=False),
    st.text(max_size=12),
    st.dates(),
    st.datetimes(),
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=12,
)


@given(st.dictionaries(names, values, max_size=5), st.booleans())
def test_agrees_with_tomllib_on_all_documents(document, multiline):
    text = tomli_w.dumps(document, multiline_strings=multiline)
    parsed = tomllib.loads(text)
    assert set(Lines(text)._lines) == set(paths(parsed))


def paths(value, at=()):
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*at, key)
        yield from paths(inner, (*at, key))
