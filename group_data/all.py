"""Settings of the whole house. Every setting has a default.

You can also write ollama_model, ollama_context, backup_folder, backup_folder_mounted and firewall_shut_off into a
host's data in the inventory. For that host, the inventory overrides this file.
"""

# A short name for this house. It appears in the names of the CA and the relay.
house_name = "house"

# All names of the house end with this domain. .internal is reserved for private use. A domain of your own works as
# well. A deployed house cannot have another one, see docs/ca.md.
house_domain = "house.internal"

# Networks from which SSH is accepted. The default is all private networks. Narrow it to the address of the computer
# that you deploy from, for example ["192.168.1.5/32"].
admin_networks = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7", "fe80::/10"]

# A program of yours that listens on a host needs a row in the table below. Or write its port here, for example
# ["80/tcp"]: then the program goes on running, but no other machine can reach it. Without either, the first run stops.
# It is better to write the port into that host's data in the inventory.
firewall_shut_off = []

# Where programs come from: "release" (the projects' official files), "build" (made from package registries, needs
# compilers), "auto" (release if the site can be reached, else build). Both are checked against artifacts/pins.yaml.
artifacts_source = "auto"

# People who own devices. They become Headscale users. The first one owns the hosts of the group `clients`.
headscale_users = ["people"]

# Phones, tablets and computers that join with a page and not over SSH, see docs/devices.md. For example
# [{"name": "anna-phone", "owner": "anna", "kind": "ios"}]; owner: one of headscale_users; kind: ios, android, macos,
# windows, linux. The next run removes a node of the VPN that is neither here nor in the inventory.
headscale_devices = []

# After this time a person's device has to join again: "180d", "24h", or "0" for never. Servers do not expire.
headscale_node_expiry = "180d"

# None: the run chooses a model for the host's memory and disk, and says which one and why. Or a name of
# plan/ollama/catalogue.py. Or "smallest" (the demo's choice): the smallest model with tools; if Ollama's registry
# cannot be reached, the model that comes in a package.
ollama_model = None

# None: as much as fits, up to 32768 tokens. Or a number of tokens, 8192 or more. Ollama and OpenClaw both use it.
ollama_context = None

# The public keys for which `make backup` encrypts: "age1..." or "ssh-ed25519 AAAA...". `make backup-key` makes a pair.
# Keep the private key off all hosts. If the list is empty, no backups are made. See docs/backup.md.
backup_recipients = []

# How often coordinator and gateways make a backup by themselves and keep it: "6 hours", "12 hours", "1 day", "1 week"
# or "1 month"; "" for never. `make backup` fetches what they keep.
backup_every = ""

# Where they keep it. None: in a folder of the house. Or a folder that is there, such as that of a mounted disk; with
# backup_folder_mounted = True a host makes no backup while the disk is not mounted. Both may be in a host's data.
backup_folder = None
backup_folder_mounted = False

# Who may talk to whom. Firewalls, VPN policy, listening addresses and the verification are made from these rows. from:
# admin (admin_networks), lan (all who can reach the host outside the VPN), or a group of the inventory (clients
# includes headscale_devices); over the VPN also a person of headscale_users, written "anna@". to: a group or "all".
# over: lan or vpn. A connection without a row is refused. The rows with these six ids must stay. An address in "to"
# lets a server's kernel connect to it, for example for a mount, see docs/access-table.md.
access_table = [
    {
        "id": "ssh",
        "from": "admin",
        "to": "all",
        "port": "22/tcp",
        "over": "lan",
        "why": "deployment and repair",
    },
    {
        "id": "headscale",
        "from": "lan",
        "to": "coordinator",
        "port": "443/tcp",
        "over": "lan",
        "why": "keys, names, relay",
    },
    {
        "id": "stun",
        "from": "lan",
        "to": "coordinator",
        "port": "3478/udp",
        "over": "lan",
        "why": "finding direct paths",
    },
    {
        "id": "wireguard",
        "from": "lan",
        "to": "all",
        "port": "41641/udp",
        "over": "lan",
        "why": "the VPN itself",
    },
    {
        "id": "openclaw",
        "from": "clients",
        "to": "gateway",
        "port": "18789/tcp",
        "over": "vpn",
        "why": "messages",
    },
    {
        "id": "ollama",
        "from": "gateway",
        "to": "model_hosts",
        "port": "11434/tcp",
        "over": "vpn",
        "why": "answers",
    },
]
