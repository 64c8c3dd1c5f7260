"""Ways to balance tasks: which to try beside a specification's own, and which of them to advise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lianhe.aggregation import Mean
from lianhe.core.aggregator import Aggregator
from lianhe.core.spec import Spec
from lianhe.experiment.balancing import BALANCING, ROW_AGGREGATORS, aggregator_named
from lianhe.experiment.compare import Alternative
from lianhe.experiment.comparison import Comparison
from lianhe.experiment.evidence.advice import MethodTried, PriceClass
from lianhe.experiment.evidence.decide import judge
from lianhe.experiment.scores import Unit

MEAN = "mean"

#: cheap ones first: of two that help alike, the cheaper is advised
_CLASSES: tuple[PriceClass, ...] = ("losses", "products", "gramian", "values", "search")


def to_try(spec: Spec, methods: Sequence[Alternative]) -> dict[str, Alternative]:
    """The methods by name; the plain mean is among them where it is not the specification's own."""
    named: dict[str, Alternative] = {} if _is_mean(spec.aggregator) else {MEAN: Mean()}
    for method in methods:
        if repr(_made(method)) == repr(spec.aggregator):  # tried anyway
            continue
        name = method if isinstance(method, str) else getattr(method, "name", type(method).__name__.lower())
        named[name] = method
    return named


def judged(
    comparison: Comparison, own: Aggregator | None, methods: Mapping[str, Alternative], units: Sequence[Unit]
) -> tuple[MethodTried, ...]:
    """Every method against the plain mean, which comes first.

    Args:
        comparison: what was measured; its joint alternative is the specification as it is.
        own: aggregator of the specification.
        methods: what else was tried, by name.
        units: what counts.
    """
    plain = MEAN if MEAN in methods else comparison.joint
    classes = {comparison.joint: _class(own), **{name: _class(method) for name, method in methods.items()}}
    effects = judge(comparison, [name for name in classes if name != plain], plain, units)
    seconds = {cost.alternative: cost.seconds for cost in comparison.costs}

    def named(name: str) -> str:
        if name != comparison.joint:
            return name
        return MEAN if plain == name else f"{type(own).__name__}, as specified"

    order = [plain, *effects]
    return tuple(MethodTried(named(n), classes[n], effects.get(n, ()), seconds[n]) for n in order)


def best(methods: Sequence[MethodTried]) -> str:
    """The method that was shown to help most tasks and to hurt none; the plain mean if there is none."""
    better = [m for m in methods if m.count("help") and not m.count("hurt")]
    if not better:
        return methods[0].name
    return min(better, key=lambda m: (-m.count("help"), _CLASSES.index(m.needs), m.seconds)).name


def _made(method: Alternative) -> Alternative:
    return aggregator_named(method) if isinstance(method, str) and method in BALANCING else method


def _is_mean(aggregator: Aggregator | None) -> bool:
    return aggregator is None or isinstance(aggregator, Mean)


def _class(method: Alternative | None) -> PriceClass:
    if isinstance(method, Spec):
        return _class(method.aggregator)
    if isinstance(method, str) and method in ROW_AGGREGATORS:
        return ROW_AGGREGATORS[method].needs
    if isinstance(method, Aggregator):
        return method.needs
    return "losses" if method is None else "search"
