"""Settings of the whole house. Every one has a default.

ollama_model, ollama_context and firewall_shut_off may also stand in the data of a host in the inventory, which wins.
"""

# A short name for this house; it names the CA and the relay.
house_name = "house"

# All names of the house end in this. .internal is reserved for private use; a domain of your own works as well.
# Changing it later means a new CA and joining every device again.
house_domain = "house.internal"

# Networks from which SSH is accepted. The default is every private network; narrow it to your own, for
# example ["192.168.1.5/32"].
admin_networks = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7", "fe80::/10"]

# Programs of your own that listen on a host must have a row in the table below, or their ports stand here, such as
# ["80/tcp"]: then they run on, out of reach. Asked by the first run alone; better in the data of that host.
firewall_shut_off = []

# Where programs come from: "release" (the projects' official files), "build" (from package registries, needs
# compilers), "auto" (release where it can be reached, else build). Both are checked against artifacts/pins.yaml.
artifacts_source = "auto"

# People who own devices. They become Headscale users; the first owns the hosts of the group `clients`.
headscale_users = ["people"]

# Phones, tablets and computers that get in by a page rather than over SSH, see docs/devices.md. For example
# [{"name": "anna-phone", "owner": "anna", "kind": "ios"}]; owner: one of headscale_users; kind: ios, android, macos,
# windows, linux. A node of the VPN that is neither here nor in the inventory is removed by the next run.
headscale_devices = []

# After this time a person's device has to be joined again: "180d", "24h", or "0" for never. Servers do not expire.
headscale_node_expiry = "180d"

# None: chosen from the model host's memory and disk; the run says which and why. Or a name of
# plan/ollama/catalogue.py. Or "smallest": the smallest that can use tools (the demo's choice), or the one that
# comes in a package when Ollama's registry is out of reach.
ollama_model = None

# None: as much as fits, up to 32768. Or a number of tokens, 8192 or more; it is used everywhere.
ollama_context = None

# Who may talk to whom. Firewalls, VPN policy, listening addresses, the verification: all follow from these rows.
# from: admin (admin_networks), lan (anyone who reaches the host outside the VPN), a group of the inventory (clients:
# also headscale_devices), or over the VPN a person of headscale_users, written "anna@"; to: a group or "all"; over: lan
# or vpn. A row that is not here is refused. The six ids must stay. An address in "to" is a way out for the mounts of a
# server, see docs/access-table.md.
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
