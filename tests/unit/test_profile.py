"""The parser of the profile, with the output of the script on a Debian 13 host with systemd (names replaced)."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from pyinfra.api.exceptions import FactProcessError

from facts.base.profile import SCRIPT, HostProfile, parse_profile
from facts.other_programs.kernel_connections import SECTIONS
from plan.base.capabilities import FOLDERS, Disk, Machine
from plan.base.profile import Beside, Listener, Outgoing, Profile, Vpn
from plan.base.writable_folders import Mount, Storage
from plan.engine.claims import Login
from plan.engine.upload_folder import INCOMING
from plan.other_programs.nft_listing import Chain

RECORDED = r"""
@@ clock
1795377040.287046461
@@ uid
0
@@ hostname
home
@@ os
PRETTY_NAME="Debian GNU/Linux 13 (trixie)"
NAME="Debian GNU/Linux"
VERSION_ID="13"
VERSION="13 (trixie)"
VERSION_CODENAME=trixie
DEBIAN_VERSION_FULL=13.7
ID=debian
@@ machine
x86_64
@@ kernel
6.12.48+deb13-amd64
@@ cpus
2
@@ init
systemd
@@ systemd
systemd 257 (257.13-1~deb13u1)
@@ cgroup
@@ addresses
1: lo    inet 127.0.0.1/8 scope host lo\       valid_lft forever preferred_lft forever
1: lo    inet6 ::1/128 scope host noprefixroute \       valid_lft forever preferred_lft forever
3: host0    inet 10.77.0.11/24 scope global host0\       valid_lft forever preferred_lft forever
3: host0    inet6 fd77::11/64 scope global nodad \       valid_lft forever preferred_lft forever
3: host0    inet6 fe80::c0f6:ecff:feea:3562/64 scope link proto kernel_ll \  valid_lft forever
@@ routes
default via 10.77.0.1 dev host0
default via fd77::1 dev host0 metric 1024 pref medium
@@ listeners
udp UNCONN 0      0              *:3478        *:* users:(("python3",pid=127,fd=3))
tcp LISTEN 0      4096   127.0.0.1:11434 0.0.0.0:* users:(("systemd",pid=1,fd=37))
tcp LISTEN 0      4096           *:22          *:* users:(("sshd",pid=92,fd=3),("systemd",pid=1,fd=95))
@@ groups
1 /init.scope
account 1 0
127 /system.slice/stun.service
account 127 65534
92 /system.slice/ssh.service
account 92 0
@@ sockets
127.0.0.1:11434                     ollama-vpn.socket               ollama-vpn.service
[::]:22                             ssh.socket                      ssh.service
route 1361                          systemd-networkd.socket         systemd-networkd.service
@@ proxy
Acquire::http::Proxy "http://10.77.0.1:8888";
@@ detected
@@ mirrors
deb http://mirror.example/debian trixie main
deb http://mirror.example/debian trixie-updates main
deb http://security.mirror.example/debian-security trixie-security main
@@ ssh
10.77.0.1 50514 10.77.0.11 22
@@ reboot
@@ control-server
# private-ai names: begin
192.168.1.10 headscale.house.internal
fd00::10 headscale.house.internal
# private-ai names: end
10.0.0.1 somebody.else
@@ firewall-tried
@@ firewall-unconfirmed
@@ firewall-taken-back
@@ last-run
@@ restored
@@ stamp
{
  "revision": "0123456789ab"
}

@@ programs
@@ upgrades
@@ memory
MemTotal:       24684092 kB
MemAvailable:   22007312 kB
limit max
@@ disk
Filesystem        Avail   Inodes    IFree Mounted on
/dev/vda       73325220 16777216 15986644 /
/dev/vda       73325220 16777216 15986644 /
/dev/vda       73325220 16777216 15986644 /
/dev/vda       73325220 16777216 15986644 /
/dev/vda       73325220 16777216 15986644 /
/dev/vda       73325220 16777216 15986644 /
/dev/vda       73325220 16777216 15986644 /
@@ tun
there
@@ gpu
@@ sandbox
@@ ids
         0          0 4294967295
@@ switches
user/max_user_namespaces:94117
@@ masked
@@ packages
@@ podman-store
@@ machine-id
00112233445566778899aabbccddeeff
@@ boot
c661a50f-110e-4506-9927-8fd6282c0e66
1 (systemd (x) 1) S 0 1 1 0 -1 4194560 45092 1163420 127 4251 224 340 5108 7320 20 0 1 0 25 23158784 3367 1844674407370
@@ host-keys
ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA== root@home
@@ model
@@ unwritable
@@ passed
drwxr-xr-x /
drwxr-xr-x /var/lib
@@ mounts
/ ext4 rw,relatime
@@ links
@@ command-line
@@ claimed
@@ drop-ins
@@ places
@@ accounts
@@ account-groups
@@ vpn
@@ fenced
@@ tables
@@ nft-trouble
@@ far-mounts
@@ far-names
@@ far-devices
@@ far-peers
@@ clock-end
1795377040.368171870
@@ end
"""

# A host with GPUs, mirror lists, a user unit, interface names in addresses, and a socket of the kernel's own.
RICHER = {
    "gpu": "24564, NVIDIA GeForce RTX 4090\n8192, NVIDIA GeForce RTX 3070",
    "cgroup": "cpuset cpu io memory pids",
    "reboot": "yes",
    "firewall-tried": "yes",
    "firewall-unconfirmed": "2026-11-24 12:00:00 UTC",
    "firewall-taken-back": "2026-11-24 11:00:45 UTC",
    "last-run": "anna@notebook from 10.77.0.1 since 2026-11-24 10:00:00 UTC\nit ended at 2026-11-24 10:01:00 UTC",
    "restored": '{"phase": "deploy"}',
    "routes": "default proto static\n\tnexthop via 192.0.2.1 dev eth0 weight 1\ndefault dev wg0 scope link",
    "addresses": "7: veth0@if6    inet 192.0.2.2/24 scope global veth0\n"
    "9: ppp0    inet 198.51.100.7 peer 198.51.100.1/32 scope global ppp0",
    "mirrors": "deb [arch=amd64 signed-by=/a.gpg] https://a.example/debian trixie main\n"
    "deb cdrom:[Debian] trixie main\nURIs: http://b.example/x http://c.example/y\n"
    "deb mirror+file:/etc/apt/mirrors/debian.list trixie main\nhttps://d.example/debian",
    "proxy": 'Acquire::http::Proxy "http://192.0.2.1:3142";\nAcquire::http::Proxy::a.example "DIRECT";\n'
    'APT::Sandbox::User "root";',
    "detected": "http://10.0.0.9:3142",
    "listeners": 'udp UNCONN 0 0 127.0.0.53%lo:53 0.0.0.0:* users:(("systemd-resolve",pid=40,fd=17))\n'
    "udp UNCONN 0 0 *:51820 *:*\n"
    'tcp LISTEN 0 128 [fe80::1]%eth0:18789 [::]:* users:(("pasta (x)",pid=50,fd=9))',
    "groups": "40 /system.slice/systemd-resolved.service\n"
    "50 /user.slice/user-1001.slice/user@1001.service/app.slice/openclaw.service/libpod-payload-1f",
}


def parse(text: str) -> Profile:
    return parse_profile(text.splitlines(), sent=1795377040.0, received=1795377041.0)


def with_section(name: str, body: str, text: str = RECORDED) -> str:
    before, _, rest = text.partition(f"@@ {name}\n")
    return f"{before}@@ {name}\n{body}\n@@ {rest.partition('@@ ')[2]}"


def test_recorded_host() -> None:
    profile = parse(RECORDED)
    assert profile.clock_skew_s == pytest.approx(profile.clock - 1795377040.5)
    assert profile == Profile(
        hostname="home",
        os_id="debian",
        os_version_id="13",
        os_pretty="Debian GNU/Linux 13 (trixie)",
        cpu="amd64",
        cpus=2,
        ram_mib=24105,
        clock=profile.clock,
        clock_skew_s=profile.clock_skew_s,
        systemd=True,
        systemd_version=257,
        cgroup_controllers=frozenset(),
        kernel="6.12.48+deb13-amd64",
        addresses=(
            ("lo", "127.0.0.1/8"),
            ("lo", "::1/128"),
            ("host0", "10.77.0.11/24"),
            ("host0", "fd77::11/64"),
            ("host0", "fe80::c0f6:ecff:feea:3562/64"),
        ),
        default_routes=(("host0", "10.77.0.1"), ("host0", "fd77::1")),
        listeners=(
            Listener("udp", "*", 3478, "python3", "stun.service", 65534),
            Listener("tcp", "127.0.0.1", 11434, "systemd", "ollama-vpn.socket", None),
            Listener("tcp", "*", 22, "sshd", "ssh.service", 0),
        ),
        gpus=(),
        vram_mib=0,
        apt_proxies=("http://10.77.0.1:8888",),
        apt_mirrors=("http://mirror.example/debian", "http://security.mirror.example/debian-security"),
        ssh_client="10.77.0.1",
        ssh_port=22,
        machine_id="00112233445566778899aabbccddeeff",
        reboot_required=False,
        firewall_tried=False,
        firewall_unconfirmed="",
        firewall_taken_back="",
        stamp='{\n"revision": "0123456789ab"\n}',
        control_server=("192.168.1.10", "fd00::10"),
        machine=Machine(
            boot="c661a50f-110e-4506-9927-8fd6282c0e66 25",
            host_keys=frozenset({"AAAAC3NzaC1lZDI1NTE5AAAAIA=="}),
            ram_available_mib=21491,
            disks=tuple(Disk(folder, "/dev/vda", 71606, 15986644) for folder in FOLDERS),
            switches={"user.max_user_namespaces": 94117},
        ),
        storage=Storage(below=tuple((folder, Mount("/", "ext4", frozenset({"rw", "relatime"}))) for folder in FOLDERS)),
    )


def test_richer_host() -> None:
    text = RECORDED
    for name, body in RICHER.items():
        text = with_section(name, body, text)
    profile = parse(text)
    assert profile.gpus == ("NVIDIA GeForce RTX 4090", "NVIDIA GeForce RTX 3070")
    assert profile.vram_mib == 24564 + 8192
    assert profile.cgroup_controllers >= {"memory", "pids"}
    assert profile.reboot_required
    assert profile.firewall_tried
    assert profile.firewall_unconfirmed == "2026-11-24 12:00:00 UTC"
    assert profile.firewall_taken_back == "2026-11-24 11:00:45 UTC"
    assert profile.last_run == RICHER["last-run"]
    assert profile.restored == RICHER["restored"]
    assert profile.default_routes == (("eth0", "192.0.2.1"), ("wg0", ""))
    assert profile.addresses == (("veth0", "192.0.2.2/24"), ("ppp0", "198.51.100.7/32"))
    assert profile.apt_mirrors == (
        "https://a.example/debian",
        "http://b.example/x",
        "http://c.example/y",
        "https://d.example/debian",
    )
    assert profile.apt_proxies == ("http://192.0.2.1:3142", "http://10.0.0.9:3142")
    assert profile.apt_user == "root"
    assert profile.listeners == (
        Listener("udp", "127.0.0.53", 53, "systemd-resolve", "systemd-resolved.service"),
        Listener("udp", "*", 51820, "", ""),
        Listener("tcp", "fe80::1", 18789, "pasta (x)", "openclaw.service"),
    )


def test_what_is_beside_the_house() -> None:
    text = RECORDED
    for name, body in {
        "claimed": "/etc/headscale\n/var/lib/headscale",
        "places": "/etc/headscale\n/usr/local/bin/ollama",
        "accounts": "ollama:x:995:995::/usr/share/ollama:/bin/false\n"
        "openclaw:x:1000:1000:Me,,,:/home/openclaw:/bin/bash",
        "account-groups": "ollama\nopenclaw",
        "vpn": "state NeedsLogin\ncontrol https://control.example:8443",
        "fenced": "yes",
        "tables": "table ip filter {\n\tchain INPUT {\n"
        "\t\ttype filter hook input priority filter; policy drop;\n\t\ttcp dport 22 accept\n\t}\n}",
    }.items():
        text = with_section(name, body, text)
    assert parse(text).beside == Beside(
        claimed=frozenset({"/etc/headscale", "/var/lib/headscale"}),
        places=frozenset({"/etc/headscale", "/usr/local/bin/ollama"}),
        logins=(
            Login("ollama", 995, "/usr/share/ollama", "/bin/false"),
            Login("openclaw", 1000, "/home/openclaw", "/bin/bash"),
        ),
        groups=frozenset({"ollama", "openclaw"}),
        vpn=Vpn("NeedsLogin", "https://control.example:8443"),
        fenced=True,
        chains=(Chain("ip", "filter", "INPUT", "filter", "input", "drop", ["tcp dport 22 accept"]),),
    )
    assert parse(RECORDED).beside == Beside()


@pytest.mark.parametrize(
    ("said", "gpus", "vram_mib", "trouble"),
    [
        ("24564, NVIDIA GeForce RTX 4090", ("NVIDIA GeForce RTX 4090",), 24564, ""),
        # The card uses the machine's memory (DGX Spark).
        ("[N/A], NVIDIA GB10", ("NVIDIA GB10",), 0, ""),
        ("[Not Supported], NVIDIA T1", ("NVIDIA T1",), 0, ""),
        ("[N/A], NVIDIA GB10\n8192, NVIDIA T1", ("NVIDIA GB10", "NVIDIA T1"), 8192, ""),
        ("No devices were found\nended with 6", (), 0, "No devices were found ended with 6"),
        (
            "Failed to initialize NVML: Driver/library version mismatch\nNVML library version: 550.163\nended with 18",
            (),
            0,
            "Failed to initialize NVML: Driver/library version mismatch NVML library version: 550.163 ended with 18",
        ),
        ("ended with 124", (), 0, "ended with 124"),
        # A card that works counts, also if another one has an error.
        ("8192, NVIDIA T1\nUnable to determine the device handle\nended with 15", ("NVIDIA T1",), 8192, ""),
    ],
)
def test_whatever_nvidia_smi_says(said: str, gpus: tuple[str, ...], vram_mib: int, trouble: str) -> None:
    profile = parse(with_section("gpu", said))
    assert (profile.gpus, profile.vram_mib, profile.machine.card_trouble) == (gpus, vram_mib, trouble)


def test_memory_of_a_container_and_with_a_cache_of_zfs() -> None:
    told = "MemTotal: 16777216 kB\nMemAvailable: 4194304 kB\n"
    profile = parse(with_section("memory", f"{told}limit max\nzfs c_min 1073741824\nzfs size 9663676416"))
    assert (profile.ram_mib, profile.machine.ram_available_mib) == (16384, 4096 + 8192)
    profile = parse(with_section("memory", f"{told}limit 2147483648"))
    assert (profile.ram_mib, profile.machine.ram_available_mib) == (2048, 2048)
    assert parse(with_section("memory", "MemTotal: 1048576 kB\nlimit")).machine.ram_available_mib is None


def test_folders_on_disks_of_their_own() -> None:
    rows = [f"/dev/vda {2 * 1024 * 1024} 9 5 /"] * 2 + [f"/dev/vdb {4 * 1024 * 1024} 0 0 /var/lib/ollama"]
    rows += ["tmpfs 102400 - - /var/lib/openclaw", "tmpfs 65536 - - /var/lib/private-ai"]
    rows += ["/dev/vdc 307200 9 5 /usr", "/dev/vda 2097152 9 5 /"]
    machine = parse(with_section("disk", "\n".join(rows))).machine
    assert machine.disk("/var/lib/ollama") == Disk("/var/lib/ollama", "/dev/vdb", 4096)
    assert machine.disk("/var/lib/openclaw") == Disk("/var/lib/openclaw", "/var/lib/openclaw", 100)
    assert machine.disk(INCOMING) == Disk(INCOMING, "/var/lib/private-ai", 64)
    assert machine.disk("/opt") == Disk("/opt", "/dev/vda", 2048, 5)
    assert machine.disk("/usr") == Disk("/usr", "/dev/vdc", 300, 5)
    assert machine.disk("/var/cache").system == "/dev/vda"


def test_names_with_blanks_of_what_is_mounted_and_where() -> None:
    rows = ["tank/ai models 1048576 9 5 /srv/my disk"] * len(FOLDERS)
    machine = parse(with_section("disk", "\n".join(rows))).machine
    # A data set of ZFS is named by its mount point.
    assert machine.disk("/opt") == Disk("/opt", "/srv/my disk", 1024, 5)


@pytest.mark.parametrize(
    ("source", "server"),
    [
        ("nas:/photos", "nas"),
        ("anna@nas:photos", "nas"),
        ("anna@192.0.2.7:", "192.0.2.7"),
        ("nas:", "nas"),
        ("nas:/data/anna@home", "nas"),
        ("[2001:db8::5]:/photos", "2001:db8::5"),
        ("2001:db8::5:/photos", "2001:db8::5"),
        ("anna@[2001:db8::5]:photos", "2001:db8::5"),
        ("//nas/My@Share", "nas"),
        ("//[2001:db8::5]/share", "2001:db8::5"),
    ],
)
def test_the_server_of_a_mount(source: str, server: str) -> None:
    found = parse(with_section("far-mounts", f"/proc/mounts:{source} /srv/x fuse.sshfs rw 0 0")).outgoing
    assert [way.server for way in found] == [server]


def test_a_container_without_privileges() -> None:
    text = RECORDED
    for name, body in {
        "tun": "there\nOperation not permitted",
        "sandbox": "unshare: cannot change root filesystem propagation: Permission denied",
        "ids": "         0     100000      65536",
        "switches": "user/max_user_namespaces:0\nkernel/unprivileged_userns_clone:0",
    }.items():
        text = with_section(name, body, text)
    machine = parse(text).machine
    assert machine.tun_trouble == "Operation not permitted"
    assert machine.sandbox_trouble.endswith("Permission denied")
    assert machine.ids == ((0, 65535),)
    assert machine.switches == {"user.max_user_namespaces": 0, "kernel.unprivileged_userns_clone": 0}
    assert parse(with_section("tun", "")).machine.tun_trouble == "missing"


def test_what_the_kernel_begins_elsewhere() -> None:
    text = RECORDED
    for name, body in {
        "far-mounts": "/proc/mounts:nas:/photos /srv/photos nfs4 rw,vers=4.2,proto=tcp,addr=192.0.2.5 0 0\n"
        "/proc/mounts:[2001:db8::5]:/old /srv/old nfs rw,vers=3,proto=tcp6,mountport=20048,mountproto=udp6 0 0\n"
        "/proc/mounts:192.0.2.6:/fast /srv/fast nfs4 rw,proto=rdma,port=20049,addr=192.0.2.6 0 0\n"
        "/etc/fstab:nas:/photos /srv/photos nfs _netdev 0 0\n"
        "/etc/fstab://box/music /srv/music cifs guest,port=4450 0 0\n"
        "/etc/fstab:anna@192.0.2.7:/home /srv/home fuse.sshfs _netdev\n"
        "/etc/fstab:10.0.0.1:6789,10.0.0.2:6789:/ /srv/c ceph name=x 0 0",
        "far-names": "nameserver 192.0.2.1\nfd00::9 box.lan box\n192.0.2.9 box",
        "far-devices": "/sys/class/net/wg0/uevent:DEVTYPE=wireguard\n"
        "/sys/class/iscsi_connection/connection1:0/persistent_address:fd00::3\n"
        "/sys/class/iscsi_connection/connection1:0/persistent_port:3261\n"
        "/sys/class/nvme/nvme0/transport:pcie\n/sys/class/nvme/nvme0/address:0000:01:00.0\n"
        "/sys/class/nvme/nvme1/transport:tcp\n"
        "/sys/class/nvme/nvme1/address:traddr=192.0.2.8,trsvcid=4420,src_addr=192.0.2.10",
        "far-peers": "/etc/wireguard/wg0.conf:Endpoint = vps.example.org:51820\n"
        "/etc/wireguard/off.conf:Endpoint = 198.51.100.9:1\n"
        "/etc/systemd/network/50-wg.netdev:Name=wg0\n/etc/systemd/network/50-wg.netdev:Endpoint=[2001:db8::7]:51821",
    }.items():
        text = with_section(name, body, text)
    assert set(parse(text).outgoing) == {
        Outgoing("NFS mount at /srv/photos", "nas", "192.0.2.5", ("2049/tcp",), asked=True),
        Outgoing("NFS 3 mount at /srv/old", "2001:db8::5", "2001:db8::5", ("2049/tcp", "111/udp", "20048/udp")),
        Outgoing("CIFS mount at /srv/music", "box", "192.0.2.9", ("4450/tcp",)),
        Outgoing("sshfs mount at /srv/home", "192.0.2.7", "192.0.2.7", ("22/tcp",)),
        Outgoing("Ceph mount at /srv/c", "10.0.0.1:6789,10.0.0.2:6789", "", (), asked=True),
        Outgoing("iSCSI disk", "fd00::3", "fd00::3", ("3261/tcp",)),
        Outgoing("NVMe disk", "192.0.2.8", "192.0.2.8", ("4420/tcp",)),
        Outgoing("WireGuard tunnel wg0", "vps.example.org", "", ("51820/udp",), asked=True),
        Outgoing("WireGuard tunnel wg0", "2001:db8::7", "2001:db8::7", ("51821/udp",)),
    }
    # With systemd-resolved, root's questions come from the account systemd-resolve, which may ask.
    own = parse(with_section("far-names", "nameserver 127.0.0.53", text))
    assert not any(each.asked for each in own.outgoing)


def test_the_script_finds_the_names_of_servers_in_the_host_s_own_file(tmp_path: Path) -> None:
    (tmp_path / "mounts").write_text(
        "nas:/photos /srv/photos nfs4 rw,addr=192.0.2.5 0 0\n//localhost/music /srv/music cifs guest 0 0\n"
        "proc /proc proc rw 0 0\n# old:/x /srv/x nfs defaults 0 0\n"
    )
    script = SECTIONS.replace("/proc/mounts", str(tmp_path / "mounts")).replace("/etc/fstab", str(tmp_path / "none"))
    script = f"s() {{ echo @@ $1; }}\n{script}"
    done = subprocess.run(["sh", "-u"], input=script, text=True, capture_output=True, check=False)
    mounts, rest = done.stdout.split("@@ far-devices")
    assert mounts.count("/srv/") == 2 and "old:" not in mounts, done.stderr
    names = rest.split("@@ far-names\n")[1]
    assert "localhost" in names


def test_the_script_is_good_shell() -> None:
    done = subprocess.run(["sh", "-n"], input=SCRIPT, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("machine", "cpu"), [("x86_64", "amd64"), ("aarch64", "arm64"), ("riscv64", "riscv64")])
def test_cpu(machine: str, cpu: str) -> None:
    assert parse(with_section("machine", machine)).cpu == cpu


def test_host_without_systemd() -> None:
    profile = parse(with_section("systemd", "", with_section("init", "busybox")))
    assert (profile.systemd, profile.systemd_version) == (False, 0)


def test_clock_behind() -> None:
    text = with_section("clock", "1795370000.0", with_section("clock-end", "1795370001.0"))
    assert parse(text).clock_skew_s == -7040.0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cut off after 'nothing'"),
        ("Permission denied", "cut off after 'nothing'"),
        (RECORDED.replace("@@ end", ""), "cut off after 'clock-end'"),
        (RECORDED[: RECORDED.index("@@ routes")], "cut off after 'addresses'"),
        (RECORDED.replace("@@ listeners", "@@ other"), "'listeners' is missing"),
        (with_section("uid", "1000"), "as root"),
        (with_section("memory", ""), "'MemTotal:' is missing"),
        (with_section("os", "NAME=x"), "'ID' is missing"),
        (with_section("disk", "/dev/vda 1 1 2048 1% /"), "some of /var/lib, /opt"),
        (with_section("disk", "df: error\n" * len(FOLDERS)), "some of /var/lib, /opt"),
        (with_section("cpus", "many"), "cannot be read"),
        (with_section("listeners", "tcp LISTEN 0"), "cannot be read"),
        (with_section("addresses", "1: lo inet 300.1.1.1/8"), "cannot be read"),
        (with_section("accounts", "ollama:x"), "cannot be read"),
        (RECORDED.replace("@@ tables", "@@ other"), "'tables' is missing"),
    ],
)
def test_malformed_output_is_an_error(text: str, message: str) -> None:
    with pytest.raises(FactProcessError, match=message):
        parse(text)


def test_fact_sends_the_script_and_times_it() -> None:
    fact = HostProfile()
    assert fact.command() == SCRIPT
    assert fact.process(RECORDED.splitlines()).clock_skew_s != 0


def test_a_socket_that_was_opened_meanwhile_gets_its_program(tmp_path: Path) -> None:
    """ss first reads the programs, then the sockets. Between these, tailscaled may open another socket."""
    ss = tmp_path / "ss"
    ss.write_text(
        '#!/bin/sh\nprintf "udp UNCONN 0 0 0.0.0.0:41641 0.0.0.0:*"\n'
        f'[ -e {tmp_path}/again ] && printf " users:((\\"tailscaled\\",pid=7,fd=3))"\n: > {tmp_path}/again; echo\n'
    )
    ss.chmod(0o755)
    lines = SCRIPT[SCRIPT.index("l=$(ss ") : SCRIPT.index("\np=$(")]
    said = subprocess.run(
        ["sh", "-c", f'PATH={tmp_path}:$PATH; s() {{ echo "@ $1"; }}\n{lines}'],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert said.splitlines()[0] == "@ listeners" and "tailscaled" in said
