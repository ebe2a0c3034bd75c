"""Give the node of one host a new key: the host joins again, and keeps its name and its addresses.

Run: pyinfra inventory.py playbooks/node_key_rotate.py --data on=HOST
"""

from pyinfra import host

from facts.headscale import Headscale
from operations.engine.run import this_run
from operations.renewal import node_key_rotated
from plan.engine.errors import SettingError, nearest
from tasks.devices import refuse
from tasks.engine.house import WrongInput, check_reached, the_house

check_reached()
house, name = the_house(), this_run().command_line.data.get("on")
known = [member.name for member in house.members]
if name not in known:
    step = "add --data on=HOST" if name is None else nearest(name, known, "a device has to join again: docs/devices.md")
    refuse(SettingError("--data on", name, f"a host: {', '.join(known)}", step))
if not host.get_fact(Headscale).answers:
    raise WrongInput(f"Headscale on {host.name} does not answer (nothing was changed). Next: run the deployment")
member = house.member(name)
node_key_rotated(
    name=f"Renewal | New node key for {name}",
    target=name,
    control=f"https://{house.headscale_name}:{house.port('headscale')}",
    tags=member.tags,
    user="" if member.tags else member.user,
    accept_dns=not member.is_server,
)
