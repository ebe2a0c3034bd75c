"""Hostile values, as strategies for Hypothesis, and functions that say whether a value is clean.

These functions do not use the patterns of the code, so that a mistake in a pattern is found.
"""

from __future__ import annotations

import ipaddress
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st

from plan.devices.declared import KINDS
from plan.house.access_table import SOURCES, TARGETS
from plan.house.house import House

#: Pieces with a special meaning for a shell, nft, systemd, YAML, JSON, HTML, openssl, curl, ssh, jinja, a terminal or a
#: path, and pieces that only look like good values.
PIECES = (
    *("", " ", "'", '"', "\\", ";", "&&", "|", ">", "<", "(", ")", "`reboot`", "$(reboot)", "${HOME}", "$HOME", "$$"),
    *("*", "?", "[a]", "[/]", "[red]", "{a,b}", "~", "~root", "!", "#", " # x", "-", "--", "-rf", "--help"),
    *("-oProxyCommand=reboot", "..", "../", "/", "//", "/etc/passwd", "%", "%h", "%n", "%i", "%%", "100%"),
    *("{{ 7 * 7 }}", "{% raw %}", "{#", "{}", "{0}", "\n", "\r\n", "\r", "\t", "\0", "\v", "\x1b[2J", "\x1b]0;x\x07"),
    *(
        "\x7f",
        "\x85",
        "\x9b2J",
        "\u2028",
        "\u202e",
        "\u2066",
        "\u200b",
        "\ufeff",
        "\ud800",
        "\U0010ffff",
        "é",
        "e\u0301",
    ),
    *(
        "\u043e",
        "\uff41",
        "\u0661",
        "\u05d0\u05d1",
        "\u0131",
        "\u212a",
        "\u00df",
        "\U0001f600",
        "\U0001f469\u200d\U0001f467",
    ),
    *(": ", "a: b", "- a", "&a", "*a", "!!python/object:os.system", "? a", "@", ",", "=", "a=b", "+", ".", "_"),
    *("<script>alert(1)</script>", "&amp;", "</code>", '"><img src=x onerror=x>', "<!--", "]]>", "javascript:alert(1)"),
    *('" accept comment "', " accept", "tcp dport 22 accept", "}", "{", "DNS:evil.example", ",DNS:evil.example"),
    *("/CN=evil", "email:copy", "\\n", "\\0", "%s", "\nExecStart=/bin/true", "\n[Service]", "\nProxyCommand reboot"),
)
#: Words that YAML, JSON, pyinfra's command line or a name service may understand as something else than text.
WORDS = (
    *("yes", "no", "on", "off", "true", "false", "null", "none", "nan", "inf", "0", "00", "1", "007", "1e3", "0x10"),
    *("0o7", "0b1", "2026-11-24", "12-30", "localhost", "all", "root", "x" * 63, "x" * 64, "a--b", "xn--bcher-kva"),
)
#: Values of other types. Settings are written in Python, so they may have any type.
OTHERS: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 65, 10**40, 1.5, float("nan"), float("inf"), b"", b"\x0a\0\0\1", b"x", 2j),
    *([], [None], [[]], [True], [0], ["x", None], (), ("10.0.0.0", 8), {}, {"a": 1}, {1: 2}, {None: None}),
    *(set(), frozenset({"x"}), object, ValueError("x"), range(3), ...),
)

#: Texts that are made of these pieces, and any other texts.
texts = st.one_of(
    st.sampled_from(PIECES),
    st.sampled_from(WORDS),
    st.lists(st.sampled_from(PIECES + WORDS), min_size=2, max_size=5).map("".join),
    st.text(max_size=30),
    st.sampled_from(["x" * 300, "x" * 70_000, "\U0001f600" * 5000]),
)


def as_argument(text: str) -> str:
    """The text without the characters that an argument, an environment variable or a file name cannot have."""
    return text.replace("\0", "").encode(errors="replace").decode()


arguments = texts.map(lambda text: as_argument(text[:1000]))
values = st.one_of(
    texts, st.sampled_from(OTHERS), st.lists(texts, max_size=3), st.dictionaries(texts, texts, max_size=2)
)


def near(*good: str) -> st.SearchStrategy[str]:
    """Good texts with something else inserted. A pattern that does not check start and end would accept them."""

    def inserted(drawn: tuple[str, str, int]) -> str:
        text, piece, at = drawn
        place = at % (len(text) + 1)
        return text[:place] + piece + text[place:]

    return st.tuples(st.sampled_from(good), st.sampled_from(PIECES), st.integers(0, 200)).map(inserted)


#: Good names, the unusual ones first.
ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789"
labels = st.one_of(
    st.sampled_from([word for word in WORDS if len(word) < 64]),
    st.text(ALPHABET + "-", min_size=1, max_size=63).filter(lambda text: text[0] != "-" != text[-1]),
)


def is_label(text: object) -> bool:
    return (
        type(text) is str
        and 0 < len(text) < 64
        and all(letter in ALPHABET + "-" for letter in text)
        and text[0] != "-" != text[-1]
    )


def is_address(text: object) -> bool:
    try:
        return type(text) is str and set(text) <= set("0123456789abcdef.:") and str(ipaddress.ip_address(text)) == text
    except ValueError:
        return False


def _nanoseconds(duration: str) -> int:
    hours = {"h": 1, "d": 24, "w": 168, "y": 8760}.get(duration[-1], 0)
    return int(duration[:-1]) * hours * 3600 * 10**9 if duration[:-1].isdigit() else 0


def unclean(house: House) -> list[str]:
    """The values of a house that would be dangerous or surprising in a command or a file."""
    found = {
        "name": is_label(house.name) and len(house.name) <= 50,
        "domain": type(house.domain) is str
        and house.domain.count(".") > 0
        and all(map(is_label, house.domain.split(".")))
        and house.domain.rpartition(".")[2][0].isalpha(),
        "users": all(map(is_label, house.users)) and len(set(house.users)) == len(house.users) > 0,
        "admin_networks": all(
            type(text) is str and is_address(text.partition("/")[0]) and str(ipaddress.ip_network(text)) == text
            for text in house.admin_networks
        )
        and len(house.admin_networks) > 0,
        "artifacts_source": house.artifacts_source in ("auto", "release", "build"),
        "node_expiry": type(house.node_expiry) is str
        and house.node_expiry.isascii()
        # Headscale stores a duration as nanoseconds in 63 bits.
        and (house.node_expiry == "0" or 0 < _nanoseconds(house.node_expiry) < 2**63),
    }
    for member in house.members:
        found[f"host {member.name!r}"] = (
            is_label(member.name) and member.user in house.users and all(map(is_address, member.addresses))
        )
    for device in house.devices:
        found[f"device {device.name!r}"] = (
            is_label(device.name) and device.owner in house.users and device.kind in KINDS
        )
    for row in house.access:
        found[f"row {row.id!r}"] = (
            is_label(row.id)
            and row.source in (*SOURCES, *(f"{user}@" for user in house.users))
            and (row.target in TARGETS or is_address(row.target))
            and type(row.port) is int
            and 0 < row.port < 65536
            and row.protocol in ("tcp", "udp")
            and row.over in ("lan", "vpn")
            and type(row.why) is str
            and row.why.isprintable()
        )
    return [what for what, clean in found.items() if not clean]


def fewer(by: int) -> settings:
    """Settings with only a part of the profile's number of cases, for tests whose cases take long."""
    profile = settings.get_profile(settings.get_current_profile_name())
    return settings(max_examples=max(2, profile.max_examples // by))
