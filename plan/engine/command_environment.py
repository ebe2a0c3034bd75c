"""The environment that our commands have on every host, whatever the host's own is."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from plan.engine.errors import SettingError
from plan.engine.terminal_text import line as on_one_line

#: What a host says before this line is a greeting of its shell, and none of the answer.
MARK = "--- private-ai: the answer begins"

#: English words: programs are asked, and their answers are read. No proxy on the way to the house's own names.
ENVIRONMENT = "export LC_ALL=C no_proxy='*' NO_PROXY='*'"
#: Debian's PATH of root, then the host's own: an account of Debian, a secure_path of sudo and doas may lack the folders
#: of nft and useradd, and root's own may have another openssl first. Root's own umask may be 077, with which others
#: could not read what is made here; what must be secret says so by itself.
SYSTEM = 'export PATH="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin${PATH:+:$PATH}"; umask 022'
#: Names by which a person changes what programs do that a run starts, in /etc/environment or a shell's own files: how
#: they read their arguments and print, what they trust, whom they ask.
FOREIGN = (
    *("BASH_ENV", "BLOCKSIZE", "BLOCK_SIZE", "CDPATH", "DF_BLOCK_SIZE", "GREP_OPTIONS", "POSIXLY_CORRECT"),
    *("QUOTING_STYLE", "TAR_OPTIONS", "SYSTEMD_COLORS", "SYSTEMD_LOG_LEVEL", "SYSTEMD_UNIT_PATH"),
    *("CURL_CA_BUNDLE", "OPENSSL_CONF", "SSL_CERT_DIR", "SSL_CERT_FILE"),
    *("HEADSCALE_CLI_ADDRESS", "HEADSCALE_CLI_API_KEY", "HEADSCALE_CONFIG"),
)
#: Likewise for Podman, which OpenClaw's account runs: its systemd has what /etc/environment says (pam_env).
FOREIGN_TO_PODMAN = (
    *("CONTAINERS_CONF_OVERRIDE", "CONTAINERS_REGISTRIES_CONF", "CONTAINERS_STORAGE_CONF", "CONTAINER_CONNECTION"),
    *("CONTAINER_HOST", "CONTAINER_SSHKEY", "STORAGE_DRIVER", "STORAGE_OPTS"),
    *("TMPDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"),
)
#: What /etc/containers/containers.conf says is for a person's own containers: it may mount folders, pass variables, and
#: take protection away. OpenClaw's account has none of it.
PODMAN = "CONTAINERS_CONF=/dev/null"
#: Before a command for which the host's own exceptions from its proxy hold. apt takes the proxy itself from http_proxy,
#: which is left alone, and takes an asterisk for no host's name.
OWN_EXCEPTIONS = 'no_proxy="$host_no_proxy"'
#: The first lines of every script that is sent to a host. A greeting may lack its end of line, and come on either way.
BEGIN = "\n".join(
    [
        f"unset {' '.join(FOREIGN)}",
        f'host_no_proxy="$no_proxy"; {ENVIRONMENT}; {SYSTEM}',
        f"printf '\\n%s\\n' '{MARK}'; printf '\\n%s\\n' '{MARK}' >&2",
    ]
)


def answer(lines: Iterable[str], otherwise: Iterable[str] = ()) -> Iterator[str]:
    """The lines behind MARK. All of them when it does not come, and `otherwise` behind them: the script was not begun,
    and they say why."""
    before: list[str] | None = []
    for line in lines:
        if before is None:
            yield line
        elif line.rstrip("\r\n") == MARK:
            before = None
        else:
            before.append(line)
    if before is not None:
        yield from before
        yield from otherwise


def unbegun(name: str, user: str, said: Iterable[str]) -> SettingError:
    """What is wrong with host `name`, where scripts sent to `user` are not begun; `said` is what came instead."""
    words = " ".join(each.strip() for each in said if each.strip())
    # Debian's cloud images: the key is there for root too, with a command that only says who may log in.
    other = re.search(r'login as the user "(\w+)" rather than', words)
    step = (
        f"'ssh_user': '{other[1]}', '_sudo': True in the host's data in the inventory"
        if other
        else f'see what `ssh {user}@HOST true` prints: a command="..." in authorized_keys, ForceCommand in '
        "sshd_config, a login shell such as nologin or tcsh, or a line of .bashrc that ends the shell or starts "
        "another program may be why"
    )
    return SettingError(
        f"host {name}: a command over SSH", on_one_line(words) or "not run", "a login that runs sh", step
    )
