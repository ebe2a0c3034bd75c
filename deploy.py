"""Deploys all components, in this order. Run: pyinfra inventory.py deploy.py

All hosts go through this list at the same time. At a barrier every host waits for all others: all steps above it are
done on every host before any step below it begins.
"""

from operations.engine.barrier import barrier
from tasks import backup, base, ca, devices, drift, firewall, headscale, health, ollama, openclaw, renewal, tailscale
from tasks.engine.hosts import this
from tasks.engine.house import check_reached

check_reached()
drift.ask_git()
here = this()

# So far nothing has been changed on any host. If a check fails, the run ends here.
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
    if here.profile.restored:
        # An older database has nodes that were removed since. They go before anything else starts.
        devices.deploy(here)
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

renewal.deploy(here)
backup.deploy(here)
backup.end_restore(here)

# Health comes here, because it looks at all components above.
health.deploy(here)
tailscale.wait(here)
barrier(name="Done")

drift.deploy(here)
