"""Give the house a new authority with a new key, in three steps. Each call goes one step, then deploys.

Run: pyinfra inventory.py playbooks/ca_rotate.py [--data missing=accepted]
"""

from pathlib import Path

from pyinfra import host, local

from operations.ca.authority import authority_followed
from operations.engine.barrier import barrier
from plan.ca import next_name
from tasks.ca import permitted
from tasks.engine.house import check_reached, the_house
from tasks.renewal import next_step

check_reached()
house = the_house()
stage, authority = next_step()
if host.name == house.coordinator.name:
    authority_followed(
        name="CA | The next step to a new authority",
        stage=stage,
        common_name=next_name(house, authority),
        permitted=permitted(house),
    )
barrier(name="Step made")
local.include(str(Path(__file__).parent.parent / "deploy.py"))
