"""The environment of our commands: the same on every host, so that settings of the host do not change what they do."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from plan.engine.errors import SettingError
from plan.engine.terminal_text import line as on_one_line

#: Output before this line is a greeting of the host's shell, not part of the answer.
MARK = "--- private-ai: the answer begins"

#: LC_ALL=C: programs answer in English, because we parse their answers. no_proxy: no proxy for the house's own names.
ENVIRONMENT = "export LC_ALL=C no_proxy='*' NO_PROXY='*'"
#: Root's PATH as Debian sets it, then the host's own PATH. A normal account's PATH and the secure_path of sudo and doas
#: may lack the folders of nft and useradd. Root's own PATH may have another openssl first. Root's umask may be 077;
#: then service accounts could not read the files that we make. Each secret file gets its own mode.
SYSTEM = 'export PATH="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin${PATH:+:$PATH}"; umask 022'
#: Variables that a person may have set in /etc/environment or in a shell's start-up files. They change how the programs
#: that a run starts read arguments and print, which certificates they trust, and which server they ask.
FOREIGN = (
    *("BASH_ENV", "BLOCKSIZE", "BLOCK_SIZE", "CDPATH", "DF_BLOCK_SIZE", "GREP_OPTIONS", "POSIXLY_CORRECT"),
    *("QUOTING_STYLE", "TAR_OPTIONS", "SYSTEMD_COLORS", "SYSTEMD_LOG_LEVEL", "SYSTEMD_UNIT_PATH"),
    *("CURL_CA_BUNDLE", "OPENSSL_CONF", "SSL_CERT_DIR", "SSL_CERT_FILE"),
    *("HEADSCALE_CLI_ADDRESS", "HEADSCALE_CLI_API_KEY", "HEADSCALE_CONFIG"),
)
#: The same for Podman, which OpenClaw's account runs: the account's systemd gets /etc/environment too (pam_env).
FOREIGN_TO_PODMAN = (
    *("CONTAINERS_CONF_OVERRIDE", "CONTAINERS_REGISTRIES_CONF", "CONTAINERS_STORAGE_CONF", "CONTAINER_CONNECTION"),
    *("CONTAINER_HOST", "CONTAINER_SSHKEY", "STORAGE_DRIVER", "STORAGE_OPTS"),
    *("TMPDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"),
)
#: /etc/containers/containers.conf is for a person's own containers: it may mount folders, pass variables and remove
#: protection. With this variable, Podman does not read it for OpenClaw's account.
PODMAN = "CONTAINERS_CONF=/dev/null"
#: Before a command that must use the host's own no_proxy, such as apt. apt takes its proxy from http_proxy, which we do
#: not change, and does not understand the asterisk in our no_proxy.
OWN_EXCEPTIONS = 'no_proxy="$host_no_proxy"'
#: The first lines of every script that a run sends to a host. MARK gets a line break before it, because a greeting may
#: end without one, and goes to both outputs, because a greeting may come on either.
BEGIN = "\n".join(
    [
        f"unset {' '.join(FOREIGN)}",
        f'host_no_proxy="$no_proxy"; {ENVIRONMENT}; {SYSTEM}',
        f"printf '\\n%s\\n' '{MARK}'; printf '\\n%s\\n' '{MARK}' >&2",
    ]
)


def answer(lines: Iterable[str], otherwise: Iterable[str] = ()) -> Iterator[str]:
    """The lines after MARK. Without MARK the host did not begin the script: then all lines, and after them those of
    `otherwise`, because they say why."""
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
    """The error for a host whose login as `user` does not begin our scripts. `said`: the output that came instead."""
    words = " ".join(each.strip() for each in said if each.strip())
    # Debian's cloud images also let the key log in as root, but only run a command that prints which user to log in as.
    other = re.search(r'login as the user "(\w+)" rather than', words)
    if other:
        step = f"'ssh_user': '{other[1]}', '_sudo': True in the host's data in the inventory"
    elif "password has expired" in words:
        # OpenSSH writes these words in English on every host.
        step = (
            f"log in once in a terminal, `ssh {user}@HOST`, and set the new password for which it asks. Or as root on "
            f"the host: chage -d $(date +%F) {user}; chage -M -1 {user}"
        )
    else:
        step = (
            f'see what `ssh {user}@HOST true` prints: a command="..." in authorized_keys, ForceCommand in sshd_config, '
            "a login shell such as nologin or tcsh, or a line of .bashrc that ends the shell or starts another program "
            "may be why"
        )
    return SettingError(
        f"host {name}: a command over SSH", on_one_line(words) or "not run", "a login that runs sh", step
    )
