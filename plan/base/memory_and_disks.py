"""How much memory and disk space the house needs on a host, and whether the host has it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace

from plan.base.capabilities import PACKAGE_FILES, Disk, Machine
from plan.base.profile import Profile
from plan.base.writable_folders import DATA
from plan.engine.errors import SettingError
from plan.engine.upload_folder import INCOMING
from plan.house.house import Member
from plan.ollama.model_choice import Choice, choose
from plan.ollama.model_fit import DISK_RESERVE_GIB, Hardware, ram_for_budget_gib, smallest_ram_gib

MODELS = "/var/lib/ollama"
AND = " and "

NOMINAL = 0.9
"""A kernel shows at least nine tenths of the nominal RAM. So a '2 GB' machine passes a minimum of 2 GiB."""

RAM_MIB = {"coordinator": 512, "gateway": 1536}
"""Measured: OpenClaw's process takes 585 to 930 MiB, Headscale with its relay less than 200. Roles on one host add up.
A model host's minimum is that of the smallest model. It already includes 2 GiB for all other programs."""

DISK_MIB: dict[str, dict[str, int]] = {
    # Headscale's database, packages, logs.
    "coordinator": {"/var/lib": 1024, "/opt": 512},
    # The unpacked image (about 1.5 GiB), and its predecessor beside it. Also the archive that was sent, and the copy
    # that Podman makes of it, because Podman reads the archive from a pipe.
    # And the packages that Podman needs: 51 MB that become 203 MB, and apt's lists of packages, 91 MB.
    "gateway": {"/var/lib/openclaw": 4096 + 2 * 512, "/opt": 512, "/var/lib": 256, "/usr": 256, PACKAGE_FILES: 128},
    # Without the model: the model choice counts that.
    "model_hosts": {"/var/lib": 2048, "/opt": 1024},
    "clients": {"/opt": 256},
}
"""How much each role writes, and where. In /opt there is also room for the next version of the programs."""

EVERY_MIB = {"/usr": 64, PACKAGE_FILES: 128}
"""How much each host writes for packages, whatever its roles: some MB, and apt's index of all packages beside the old
one (45 MB each)."""

PROGRAMS_MIB = 128
"""Room for programs while they arrive. A host gets one program after the other. The largest has 53 MB (Tailscale): it
lies there twice, as the archive and as the unpacked files. For graphics cards' libraries see libraries_room."""

FILES = {"gateway": {"/var/lib/openclaw": 70_000}}
"""How many files a role makes, if they are many: the image has 31,000 files, and its predecessor is there as well."""
FEW_FILES = {"/var/lib": 2000, "/opt": 100}
"""How many files each role makes in any case: lists of packages and settings in /var/lib, programs in /opt."""


def ram_needed_mib(roles: Collection[str]) -> int:
    """The memory that a host with these roles needs at least, MiB."""
    model = round(smallest_ram_gib() * 1024) if "model_hosts" in roles else 0
    return max(sum(RAM_MIB.get(role, 0) for role in set(roles)), model)


def disk_needs(roles: Collection[str]) -> dict[str, int]:
    """Folder -> MiB that a first deployment of these roles needs below it."""
    found: dict[str, int] = {INCOMING: PROGRAMS_MIB, **EVERY_MIB}
    for role in set(roles):
        for folder, mib in DISK_MIB.get(role, {}).items():
            found[folder] = found.get(folder, 0) + mib
    return found


def file_needs(roles: Collection[str]) -> dict[str, int]:
    """Folder -> how many files a first deployment of these roles makes below it."""
    return FEW_FILES | {folder: files for role in roles for folder, files in FILES.get(role, {}).items()}


def shortages(machine: Machine, needs: Mapping[str, int]) -> Iterator[tuple[str, int, int]]:
    """File systems that are too small for what a run will write to them: folders, MiB free, MiB needed."""
    for disks, needed in _shared(machine, needs):
        if disks[0].free_mib < needed:
            yield AND.join(disk.folder for disk in disks), disks[0].free_mib, needed


def file_shortages(machine: Machine, needs: Mapping[str, int]) -> Iterator[tuple[str, int, int]]:
    """File systems that cannot take so many files (inodes): folders, how many are free, how many are needed."""
    for disks, needed in _shared(machine, needs):
        free = disks[0].free_files
        if free is not None and free < needed:
            yield AND.join(disk.folder for disk in disks), free, needed


def more_room(folders: str) -> str:
    """The next step where a file system of these folders, joined by AND, is too small."""
    own = [folder for folder in folders.split(AND) if folder in DATA]
    mount = f", or mount a larger disk or a folder of one at {AND.join(own)}, see docs/model-choice.md" if own else ""
    return f"free disk space or enlarge the volume{mount}"


def _shared(machine: Machine, needs: Mapping[str, int]) -> Iterator[tuple[list[Disk], int]]:
    """For each file system: its folders, and what these need together."""
    systems: dict[str, list[Disk]] = {}
    for disk in machine.disks:
        if needs.get(disk.folder):
            systems.setdefault(disk.system, []).append(disk)
    for disks in systems.values():
        yield disks, sum(needs[disk.folder] for disk in disks)


def model_room(
    member: Member, profile: Profile, choice: Choice, hardware: Hardware, named: str | None, context: int | None
) -> tuple[list[SettingError], list[str]]:
    """Problems and warnings about free memory and disk space for a model, on a host that has no model yet.

    `hardware`: the hardware for which the model was chosen. `named` and `context` are the settings. If somebody named
    the model, too little free memory is only a warning: they may know that the memory will be free.
    """
    problems: list[SettingError] = []
    warnings: list[str] = []
    entry, machine = choice.entry, profile.machine
    free_mib = machine.ram_available_mib
    if choice.place == "RAM" and free_mib is not None and choice.need_gib * 1024 > free_mib:
        free_gib = free_mib / 1024
        left = f"{free_gib:.1f} GiB are free, the rest of {hardware.ram_gib:.1f} GiB is in use by other programs"
        if named:
            warnings.append(f"host {member.name}: {entry.name} needs {choice.need_gib:.1f} GiB of RAM; {left}.")
        else:
            fitting = replace(hardware, ram_gib=ram_for_budget_gib(free_gib))
            problems.append(
                SettingError(
                    f"host {member.name}: RAM",
                    left,
                    f"{choice.need_gib:.1f} GiB free for {entry.name}, which would fit if no other program used RAM",
                    f"end programs that are not needed there, or {_smaller(fitting, context)}",
                )
            )
    needs = disk_needs(member.roles)
    needs[MODELS] = needs.get(MODELS, 0) + round(entry.download_gib * 1024)
    for folders, free, needed in shortages(machine, needs):
        if MODELS in folders.split(AND) and choice.disk_need_gib:
            fitting = replace(hardware, disk_free_gib=entry.download_gib + DISK_RESERVE_GIB - (needed - free) / 1024)
            problems.append(
                SettingError(
                    f"host {member.name}: disk at {folders}",
                    f"{free} MiB free",
                    f"{needed} MiB, of which {entry.name} takes {entry.download_gib:.1f} GiB",
                    f"{more_room(folders)}, or {_smaller(fitting, context)}",
                )
            )
    return problems, warnings


def libraries_room(member: Member, profile: Profile, choice: Choice, sizes: Sequence[int]) -> list[SettingError]:
    """Problems about disk space for Ollama with its libraries for graphics cards, on a host that does not have them
    yet. `sizes`: the sizes of its files in bytes. Together they are gigabytes, which `disk_needs` does not count."""
    total, largest = (-(-size // 2**20) for size in (sum(sizes), max(sizes)))
    machine = profile.machine
    needs = disk_needs(member.roles)
    needs[MODELS] = needs.get(MODELS, 0) + round(choice.entry.download_gib * 1024)
    # First all files arrive. Then they are moved to their places one by one, so the largest file is there twice. If
    # /opt is on another disk, all files are copied there.
    needs[INCOMING] += total + largest
    if machine.disk(INCOMING).system != machine.disk("/opt").system:
        needs["/opt"] += total
    return [
        SettingError(
            f"host {member.name}: disk at {folders}",
            f"{free} MiB free",
            f"{needed} MiB, of which Ollama with its libraries for graphics cards takes {total} MiB",
            more_room(folders),
        )
        for folders, free, needed in shortages(machine, needs)
        if {"/opt", INCOMING} & set(folders.split(AND))
    ]


def _smaller(hardware: Hardware, context: int | None) -> str:
    try:
        choice = choose(hardware, wanted_context=context, named=None, registry_reachable=True)
    except SettingError:
        return "give the role model_hosts to another host"
    return f"name a model that fits: 'ollama_model': '{choice.entry.name}', 'ollama_context': {choice.context}"
