"""Which target of a route comes next, and its input. Decides, and touches nothing.

A target is skipped that no provider offers, that is retired, or whose schema the input does not fit.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.jobs.scheduling.availability import Unavailable
from app.media_generator.model_card import ModelStatus
from app.media_generator.registry import Fault, Offer, Registry, RouteListing, faults, normalize_integers


@dataclass(frozen=True, slots=True)
class RouteStep:
    """A target of a route, ready to be submitted to."""

    number: int
    """Its place among the targets; 0 is the first."""
    offer: Offer
    input: dict[str, Any]
    """Complete, as the target's schema says."""


def first_step(
    route: RouteListing, given: Mapping[str, Any], unavailable: Unavailable
) -> tuple[RouteStep | None, list[Fault]]:
    """Where a new request goes; where it goes nowhere, what is wrong with its input.

    The first available target that fits; if none is available, the first that fits, for which it waits.
    """
    fitting, wrong = list[RouteStep](), list[Fault]()
    for number in range(len(route.targets)):
        found = _step(route, number, given)
        if isinstance(found, RouteStep):
            if unavailable.reason(found.offer.full_name) is None:
                return found, []
            fitting.append(found)
        else:
            wrong = wrong or found
    return (fitting[0] if fitting else None), wrong


def next_step(
    registry: Registry, route: str, model: str, given: Mapping[str, Any], unavailable: Unavailable | None = None
) -> RouteStep | None:
    """The target after `model`; None: it was the last one, or the route no longer exists.

    Args:
        registry: The providers of this process.
        route: Its name.
        model: The target at present.
        given: The input as it was requested of the route.
        unavailable: Targets to skip; None: the media waits for an unavailable target.
    """
    found = registry.route(route)
    names = [] if found is None else [offer.full_name for _, offer in found.targets]
    if found is None or model not in names:
        return None
    for number in range(names.index(model) + 1, len(names)):
        step = _step(found, number, given)
        if isinstance(step, RouteStep) and (unavailable is None or unavailable.reason(step.offer.full_name) is None):
            return step
    return None


def _step(route: RouteListing, number: int, given: Mapping[str, Any]) -> RouteStep | list[Fault]:
    """The target with its input, or what is wrong with that; empty: it is retired."""
    target, offer = route.targets[number]
    if offer.card.current_status is ModelStatus.RETIRED:
        return []
    mapped = target.map_input(given, offer.card.input_schema)
    if wrong := faults(offer, mapped):
        return wrong
    return RouteStep(number, offer, offer.complete(normalize_integers(offer, mapped)))
