"""SNIPS, product reviews and adult: the examples run, and what they measure and load is right."""

import pytest
import torch
from tests.examples.running import module, printed

spans = module("spans")
TAGS = ("B-city", "B-year", "I-city", "I-year", "O")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "alternatives", "measures"),
    [
        ("adult", ["sum", "solo", "half", "upgrad", "mmoe", "cgc", "ple"], ["income auroc"]),
        ("reviews", ["sum", "solo", "upgrad", "mmoe", "cgc", "ple", "cascade"], ["rating accuracy"]),
        ("snips", ["sum", "solo", "slots read intent", "upgrad"], ["intent accuracy", "slots SpanF1"]),
    ],
)
def test_an_example_ends_with_its_table(name: str, alternatives: list[str], measures: list[str]) -> None:
    out = printed(name, "--quick")
    assert all(measure in out for measure in measures)
    rows = [line.strip() for line in out.splitlines() if "±" in line]
    assert len(rows) == len(alternatives)
    assert all(row.startswith(who) for row, who in zip(rows, alternatives, strict=True))
    assert all(f"against {who}:" in out for who in alternatives[1:])


@pytest.mark.slow
def test_weights_are_searched_without_the_metric_of_spans() -> None:
    out = printed("snips", "--quick", "--against", "tuned", "--trials", "2")
    assert "against tuned:" in out
    assert "slots SpanF1" in out


@pytest.mark.parametrize(
    ("tags", "found"),
    [
        ("O O", []),
        ("B-city I-city O", [("city", 0, 2)]),
        ("B-city B-city", [("city", 0, 1), ("city", 1, 2)]),
        ("B-city I-year I-year", [("city", 0, 1), ("year", 1, 3)]),
        ("I-city O I-city", [("city", 0, 1), ("city", 2, 3)]),
        ("O B-year", [("year", 1, 2)]),
    ],
)
def test_spans(tags: str, found: list[tuple[str, int, int]]) -> None:
    assert sorted(spans.spans(tags.split())) == found


def test_f1_counts_spans_that_are_right_from_end_to_end() -> None:
    wanted = [TAGS.index(tag) for tag in "B-city I-city O B-year".split()]  # noqa: SIM905
    given = [TAGS.index(tag) for tag in "B-city I-city I-city I-year".split()]  # noqa: SIM905
    metric = spans.SpanF1(TAGS, [4])
    metric.update(torch.eye(5)[given], torch.tensor(wanted))
    # The year is right, for another kind begins a span; the city goes on for too long.
    assert metric.compute().item() == pytest.approx(2 * 1 / (2 + 2))


def test_a_span_ends_where_its_sentence_ends() -> None:
    codes = torch.tensor([0, 2, 2])  # B-city I-city | I-city
    for lengths, wanted in ([3], 1.0), ([2, 1], 2 * 2 / 4):
        metric = spans.SpanF1(TAGS, lengths)
        metric.update(torch.eye(5)[codes[:2]], codes[:2])
        metric.update(torch.eye(5)[codes[2:]], codes[2:])
        assert metric.compute().item() == pytest.approx(wanted)
    apart, together = spans.SpanF1(TAGS, [2, 1]), spans.SpanF1(TAGS, [3])
    given = torch.tensor([0, 2, 0])
    for metric in (apart, together):
        metric.update(torch.eye(5)[given], codes)
    assert apart.compute().item() == pytest.approx(1.0)  # "I-city" that goes on nothing is a span of its own
    assert together.compute().item() == pytest.approx(0.0)


@pytest.mark.slow
def test_reviews_as_tensors() -> None:
    data = module("reviews_data")
    x, y = data.load()
    assert {name: tuple(column.shape) for name, column in x.items()} == {
        "words": (22_628, 100),
        "item": (22_628,),
        "age": (22_628, 1),
    }
    assert {task: int(labels.max()) + 1 for task, labels in y.items()} == data.TASKS
    assert y["rating"].bincount().tolist() == [821, 1549, 2823, 4908, 12527]
    assert int(y["recommended"].sum()) == 18_527
    counts = x["item"].bincount()
    assert counts[1:].min() >= 20
    words = x["words"].flatten().bincount(minlength=2)
    assert words[2:].min() >= 20
    assert 0 < words[1] / words[1:].sum() < 0.06
    assert bool((x["words"] > 0).any(1).all())
    ages = x["age"][:, 0] * 10 + 43
    torch.testing.assert_close(ages, ages.round(), rtol=0, atol=1e-3)
    assert ages.min().round().item() == 18
