"""The demo's virtual hosts in topology `pair`: two people, one gateway for each, one model host. See inventory.py."""

from lab.hosts import lab_host as _lab_host

_people = {"headscale_users": ["anna", "ben"]}
_home = _lab_host("home", **_people, openclaw_users=["anna"])

coordinator = [_home]
gateway = [_home, _lab_host("gate", **_people, openclaw_users=["ben"])]
model_hosts = [_home]
clients = [
    _lab_host("laptop", **_people, tailscale_user="anna"),
    _lab_host("desk", **_people, tailscale_user="ben"),
]
