"""Who is in the house: hosts by role. These are the demo's virtual hosts (`make demo`), topology `single`.

Your own house: remove the line with lab_host and write your hosts, each in one or more of the four groups:

    coordinator = [("hub",   {"ssh_hostname": "192.168.1.10", "ssh_user": "root"})]
    gateway     = [("hub",   {"ssh_hostname": "192.168.1.10", "ssh_user": "root"})]
    model_hosts = [("brain", {"ssh_hostname": "192.168.1.11", "ssh_user": "admin", "_sudo": True})]
    clients     = [("laptop", {"ssh_hostname": "192.168.1.20", "ssh_user": "root"})]

coordinator  exactly one host: Headscale, its relay, the private CA
gateway      OpenClaw in its container: one host, or one for each person or group of people (inventory_pair.py)
model_hosts  one or more: Ollama, with a model chosen by what the host has
clients      people's computers that are managed over SSH

Names are lower-case; they become names in the VPN. With a host name in ssh_hostname rather than an address, add
"lan_addresses": ["192.168.1.10"]. Hosts that SSH does not know yet are added to your known_hosts at the first run.
Helper variables begin with an underscore: pyinfra takes any other list for a group.
"""

from lab.hosts import lab_host as _lab_host

coordinator = [_lab_host("home")]
gateway = [_lab_host("home")]
model_hosts = [_lab_host("home")]
clients = [_lab_host("laptop")]
