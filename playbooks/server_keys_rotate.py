"""Give the servers new keys with new certificates: Headscale, and each gateway. Each service restarts once.

Run: pyinfra inventory.py playbooks/server_keys_rotate.py [--limit HOST]
"""

from pyinfra import inventory

from facts.ca import CaCertificate
from operations.engine.answers import ask
from operations.renewal import server_key_rotated
from tasks.engine.hosts import this
from tasks.engine.house import WrongInput, check_reached, the_house
from tasks.renewal import question_of, to_rotate

check_reached()
house, here = the_house(), this()
if not ask(inventory.get_host(house.coordinator.name), CaCertificate):
    raise WrongInput(f"{house.coordinator.name} has no authority yet (nothing was changed). Next: run the deployment")
for each, lasts in to_rotate(here):
    server_key_rotated(
        name=f"Renewal | New key for {each.unit.name}",
        folder=each.folder,
        coordinator=house.coordinator.name,
        question=question_of(here, each),
        unit=each.unit,
        lasts=lasts,
    )
