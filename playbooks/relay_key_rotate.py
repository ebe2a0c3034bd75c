"""Give the relay a new key. Headscale restarts; nodes come back by themselves.

Run: pyinfra inventory.py playbooks/relay_key_rotate.py
"""

from pyinfra import host

from facts.headscale import Headscale
from operations.renewal import relay_key_rotated
from tasks.engine.house import WrongInput, check_reached, the_house
from tasks.headscale import service

check_reached()
if not host.get_fact(Headscale).answers:
    raise WrongInput(f"Headscale on {host.name} does not answer (nothing was changed). Next: run the deployment")
relay_key_rotated(name="Renewal | New key for the relay", unit=service(the_house()))
