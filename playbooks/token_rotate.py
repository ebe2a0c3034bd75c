"""Give a gateway a new token. From then on, the gateway refuses the old one.

Run: pyinfra inventory.py playbooks/token_rotate.py [--limit GATEWAY] [--data pairings=drop] [--data show=true]
"""

from pyinfra import host

from operations.openclaw.token import rotated
from plan.engine.errors import SettingError
from tasks.devices import refuse, yes_or_no
from tasks.engine.house import WrongInput, check_reached, the_house
from tasks.openclaw import SECRET, account_number, from_itself, service

check_reached()
house, fate, show = the_house(), host.data.get("pairings", "keep"), yes_or_no("show", "leave it out to show nothing")
if fate not in ("keep", "drop"):
    refuse(SettingError("--data pairings", fate, "keep or drop", "leave it out to keep approved browsers"))
uid = account_number()
if uid is None:
    raise WrongInput(f"{host.name} has no OpenClaw yet (nothing was changed). Next: run the deployment")
rotated(
    name=f"OpenClaw | New token, pairings: {fate}",
    secret=SECRET,
    unit=service(house, house.member(host.name), uid),
    asking=f"{from_itself(house, house.member(host.name))}/v1/models",
    drop=fate == "drop",
    show=show,
)
