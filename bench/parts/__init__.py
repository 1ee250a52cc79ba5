"""The parts, in the order of their tables. To add one: a module with a class that extends Part, and its line here."""

import importlib

MODULES = {
    "limit": "Limit",
    "pools": "Pools",
    "dispatch": "Dispatch",
    "cost": "Cost",
    "startup": "Startup",
}


def part_class(name):
    """The class of a part."""
    return getattr(importlib.import_module(f"bench.parts.{name}"), MODULES[name])
