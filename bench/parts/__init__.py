"""The parts, in the order of their tables. To add one: a module with a class that extends Part, and its line here."""

import importlib

MODULES = {
    "limit": "Limit",
    "pools": "Pools",
    "rivals": "Rivals",
    "commands": "Commands",
    "dispatch": "Dispatch",
    "cost": "Cost",
    "metering": "Metering",
    "scaling": "Scaling",
    "payload": "Payload",
    "depth": "Depth",
    "cores": "Cores",
    "memory": "Memory",
    "startup": "Startup",
    "durable": "Durable",
    "against": "Against",
}
DEFAULT = tuple(name for name in MODULES if name != "against")


def part_class(name):
    """The class of a part."""
    return getattr(importlib.import_module(f"bench.parts.{name}"), MODULES[name])


def with_needs(names):
    """These parts and those that they need, in order."""
    wanted = {need for name in names for need in (name, *part_class(name).needs)}
    return [name for name in MODULES if name in wanted]
