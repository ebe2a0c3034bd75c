"""Restore coordinator and gateways from a backup onto bare hosts. Then run the deployment, which makes the rest.

Run: pyinfra inventory.py playbooks/restore.py [--data from=FOLDER] [--data identity=FILE]
     [--data role=coordinator|gateway] [--limit HOST]
"""

from tasks import base, restore
from tasks.engine.hosts import this
from tasks.engine.house import check_reached, the_house

check_reached()
found, here = restore.plan(the_house()), this()
if here.member.name in found.bundles:
    restore.check_empty(here)
    base.check_machine(here)
    base.deploy(here)
    restore.restore(here)
