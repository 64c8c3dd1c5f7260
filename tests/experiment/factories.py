"""What an installed package of a user might offer."""

from torch import nn

NUMBER = 3


def narrow(inputs):
    return nn.Linear(inputs, 2)


def flat(inputs):
    assert inputs == [1, 4, 4]
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 3))


def matrices(inputs):
    return nn.Unflatten(1, (inputs, 1))


def wrong_width(inputs):
    return nn.Linear(inputs + 1, 2)


def breaks(inputs):
    raise RuntimeError("it breaks")
