"""The hosts of the house, by role. Now these are the demo's virtual hosts (`make demo`), topology `single`.

For your own house, remove the line with lab_host and write your hosts, each in one or more of the four groups:

    coordinator = [("hub",   {"ssh_hostname": "192.168.1.10", "ssh_user": "root"})]
    gateway     = [("hub",   {"ssh_hostname": "192.168.1.10", "ssh_user": "root"})]
    model_hosts = [("brain", {"ssh_hostname": "192.168.1.11", "ssh_user": "admin", "_sudo": True})]
    clients     = [("laptop", {"ssh_hostname": "192.168.1.20", "ssh_user": "root"})]

coordinator  exactly one host: Headscale, its relay, the private CA
gateway      OpenClaw in its container: one host, or one for each person or group of people (inventory_pair.py)
model_hosts  one or more hosts: Ollama, with a model that is chosen for the host's memory and disk
clients      people's computers that are deployed over SSH

Names are lower-case. They become names in the VPN. If ssh_hostname is a name and not an address, add the address of the
host: "lan_addresses": ["192.168.1.10"]. The first run adds hosts that SSH does not know yet to your known_hosts.
Helper variables begin with an underscore, because pyinfra takes any other list for a group.
"""

from lab.hosts import lab_host as _lab_host

coordinator = [_lab_host("home")]
gateway = [_lab_host("home")]
model_hosts = [_lab_host("home")]
clients = [_lab_host("laptop")]
