"""The house of this run, made from its inventory, and which hosts of the house are in the run."""

from __future__ import annotations

from fnmatch import fnmatch

from pyinfra import inventory, state
from pyinfra.api.exceptions import PyinfraError

from operations.engine.pyinfra_inside import hosts_of
from operations.engine.run import once_a_run, this_run
from plan.engine.errors import SettingError
from plan.house.house import House
from plan.house.inventory import HostEntry, build_house
from tasks.engine.inventory import checked, entries_of, groups_of


class WrongInput(PyinfraError):
    """Something is wrong with the inventory, a setting or a host. Nothing has been changed on any host."""


@once_a_run
def the_house() -> House:
    """The house of the inventory. It is built and checked once for all hosts. Raises PyinfraError."""
    hosts = entries()

    def build() -> House:
        _check_limit(hosts)
        return build_house(hosts, groups_of(inventory, this_run().command_line.inventory))

    return checked(build)


@once_a_run
def entries() -> list[HostEntry]:
    """The hosts of the inventory by name, with groups and data, whatever --limit says."""
    return entries_of(inventory, this_run().command_line.inventory)


def _check_limit(hosts: list[HostEntry]) -> None:
    names = [entry.name for entry in hosts]
    for pattern in this_run().command_line.limit:
        if pattern not in inventory.groups and not any(fnmatch(name, pattern) for name in names):
            raise SettingError(
                "--limit",
                pattern,
                f"a host ({', '.join(names)}) or a group ({', '.join(inventory.groups)})",
                "correct it",
            )


def check_reached() -> None:
    """End the run before any change if a host of this run could not be reached. Raises WrongInput."""
    missing = sorted(str(each.name) for each in hosts_of(state) if not each.connected)
    if missing:
        raise WrongInput(
            f"{', '.join(missing)} could not be reached over SSH (nothing was changed). Next: see that the host is up "
            "and that `ssh` works from here, or leave it out with --limit"
        )


def left_out() -> list[str]:
    """The hosts of the house that are not in this run."""
    return [str(each.name) for each in inventory if not state.is_host_in_limit(each)]
