"""The order of things. Run: pyinfra inventory.py deploy.py

Hosts go through the list side by side. A barrier is where every host waits for all others: what stands above it is
true on every host before anything below begins.
"""

from operations.engine.barrier import barrier
from tasks import base, ca, devices, drift, firewall, headscale, health, ollama, openclaw, tailscale
from tasks.engine.hosts import this
from tasks.engine.house import check_reached

check_reached()
drift.ask_git()
here = this()

# Nothing has been changed yet on any host, and nothing is if a check fails.
base.check(here)
barrier(name="Checked")

base.deploy(here)
firewall.deploy(here)
if here.has("gateway"):
    openclaw.send_image(here)
barrier(name="Prepared")

if here.has("coordinator"):
    ca.deploy_authority(here)
barrier(name="Authority made")
ca.deploy_trust(here)
if here.has("coordinator"):
    headscale.deploy(here)
barrier(name="Control server ready")

tailscale.deploy(here)
barrier(name="Joined")
if here.has("coordinator"):
    devices.deploy(here)

if here.has("model_hosts"):
    ollama.deploy(here)
barrier(name="Models answer")

if here.has("gateway"):
    openclaw.deploy(here)

# It looks at what was deployed above.
health.deploy(here)
tailscale.wait(here)
barrier(name="Done")

drift.deploy(here)
