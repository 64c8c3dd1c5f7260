"""The interface of aggregators, and how a collected stack is reconciled."""

from __future__ import annotations

import pytest
import torch
from tests.toys import F64, Flat, Largest, Shortest

from lianhe.core.aggregator import Aggregator, Elementwise, Weighting, reconcile, reduce_across_sites
from lianhe.core.contribution import Contribution, Joint
from lianhe.core.errors import AggregationError
from lianhe.core.stack import Collected, Rows
from lianhe.core.streams import Stream

E, A, B = "encoder", "head.a", "head.b"
STATISTICS = "encoder/statistics"


def tensor(*values):
    return {"w": torch.tensor(values, dtype=F64)}


JOINT = Joint({E: tensor(0, 0), A: tensor(0), B: tensor(0), STATISTICS: tensor(0)}, frozenset([STATISTICS]))


def tasks(**options):
    return Collected(
        [
            Contribution("a", {E: tensor(3, 0), A: tensor(5)}, {"": 1.0}, objective=True, **options),
            Contribution("b", {E: tensor(0, 6), B: tensor(7)}, {"": 3.0}, objective=True, **options),
        ],
        JOINT,
        Stream(0, 4),
    )


def sites():
    return Collected(
        [
            Contribution("n", {E: tensor(3, 0), A: tensor(5)}, {"": 10.0, A: 2.0}),
            Contribution("s", {E: tensor(0, 6), A: tensor(9), B: tensor(7)}, {"": 30.0, A: 6.0, B: 1.0}),
        ],
        JOINT,
    )


def lists(blocks):
    return {b: ts["w"].tolist() for b, ts in blocks.items()}


def test_objectives_are_scalarised_by_weights_and_by_losses():
    assert lists(reconcile(tasks(), None)) == {E: [0.75, 4.5], A: [1.25], B: [5.25]}
    assert lists(reconcile(tasks(), Flat())) == {E: [1.5, 3], A: [2.5], B: [3.5]}


def test_objectives_are_reconciled_in_what_they_share_and_followed_elsewhere():
    assert lists(reconcile(tasks(), Shortest())) == {E: [0.5, 0.5], A: [5], B: [7]}
    assert lists(reconcile(tasks(), Largest())) == {E: [3, 6], A: [5], B: [7]}


def test_sites_are_aggregated_block_by_block_over_the_holders():
    assert lists(reconcile(sites(), None)) == {E: [0.75, 4.5], A: [8], B: [7]}
    assert lists(reconcile(sites(), Flat())) == {E: [1.5, 3], A: [7], B: [7]}
    assert lists(reconcile(sites(), Largest())) == {E: [3, 6], A: [9], B: [7]}


@pytest.mark.parametrize("aggregator", [None, Flat(), Shortest(), Largest()], ids=repr)
@pytest.mark.parametrize("objective", [True, False])
def test_statistics_are_averaged_by_weight_whatever_the_aggregator(aggregator, objective):
    rows = [
        Contribution("a", {E: tensor(1, 1), STATISTICS: tensor(4)}, {"": 1.0}, objective=objective),
        Contribution("b", {E: tensor(2, 2), STATISTICS: tensor(8)}, {"": 3.0}, objective=objective),
    ]
    assert lists(reconcile(Collected(rows, JOINT), aggregator))[STATISTICS] == [7]


def test_an_aggregator_of_the_whole_takes_the_stack_as_it_is():
    class Whole(Aggregator):
        needs, whole = "values", True

        def aggregate(self, stack):
            return {"labels": {"n": torch.tensor(len(stack))}}

    assert reconcile(sites(), Whole())["labels"]["n"] == 2


def test_the_rows_of_a_task_are_added_up_in_the_order_of_the_specification():
    rows = [
        Contribution("n", {E: tensor(1, 0), B: tensor(2)}, {"": 3.0}, 1.0, "b", importance=5.0),
        Contribution("s", {E: tensor(5, 4), B: tensor(6)}, {"": 1.0}, 2.0, "b", importance=5.0),
        Contribution("s", {E: tensor(7, 7), A: tensor(8)}, {"": 9.0}, 4.0, "a"),
    ]
    reduced = reduce_across_sites(Collected(rows, JOINT, Stream(1, 2)), Flat(), ["a", "b", "c"])
    assert reduced.names == ("a", "b")
    assert reduced.objectives
    assert reduced.stream == Stream(1, 2)
    assert reduced.weights.tolist() == [1, 5]
    assert reduced.losses.tolist() == [4, 1.25]
    assert lists(reduced.contributions[0].blocks) == {E: [7, 7], A: [8]}
    assert lists(reduced.contributions[1].blocks) == {E: [3, 2], B: [4]}


def test_across_sites_may_be_robust():
    rows = [Contribution(str(i), {E: tensor(i, i)}, {"": 1.0}, 0.0, "a") for i in range(3)]
    assert lists(reduce_across_sites(Collected(rows, JOINT), Largest(), ["a"]).contributions[0].blocks) == {
        E: [2, 2]
    }


# ------------------------------------------------------------------------ the interface


def test_a_matrix_gives_a_row_and_a_stack_gives_blocks():
    matrix = torch.tensor([[1.0, 3.0], [3.0, 1.0]])
    assert Flat()(matrix).tolist() == [2, 2]
    assert Largest()(matrix).tolist() == [3, 3]
    assert Flat()(Rows(matrix)).tolist() == [2, 2]
    (group,) = Collected([Contribution("x", {E: tensor(1, 2)})], JOINT).groups()
    assert lists(Flat()(group)) == {E: [1, 2]}


def test_a_plain_aggregator_has_no_state_and_says_what_it_is():
    class Tuned(Flat):
        def __init__(self):
            self.c, self.name, self._hidden = 0.5, "x", 3

    assert repr(Tuned()) == "Tuned(c=0.5, name='x')"
    assert Tuned().state_dict() == {}
    Tuned().load_state_dict({})
    Tuned().reset()
    assert (Flat.linear, Largest.linear, Largest.needs, Flat.whole) == (True, False, "values", False)


@pytest.mark.parametrize("interface", [Aggregator, Weighting, Elementwise])
def test_interfaces_cannot_be_made(interface):
    with pytest.raises(TypeError, match="abstract"):
        interface()


def test_an_engine_that_gives_a_stack_without_blocks_is_told():
    stack = Rows(torch.eye(2))
    stack.objectives = True
    with pytest.raises(AggregationError, match="a collected stack must carry a layout"):
        reconcile(stack, None)
