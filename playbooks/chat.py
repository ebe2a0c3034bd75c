"""Send one message from the first client of the inventory (or of --limit) and print the answer.

Run: pyinfra -y inventory.py playbooks/chat.py --data message="..."
"""

import click
from pyinfra import host, state

from operations.engine.run import this_run
from operations.openclaw.send_message import ask
from tasks.engine.house import WrongInput, check_reached, the_house
from tasks.openclaw import TOKEN

check_reached()
house = the_house()
message = this_run().command_line.data.get("message")
if not message:
    raise WrongInput('message is missing; accepted: any text. Next: add --data message="..."')
clients = [
    member for member in house.with_role("clients") if state.is_host_in_limit(state.inventory.get_host(member.name))
]
if not clients:
    raise WrongInput("no client is in this run; a message is sent from a host of the group 'clients'")
gateway, port = house.gateway_of(clients[0].user), house.port("openclaw")
name = house.vpn_name(gateway)
if host.name == clients[0].name:
    click.echo(f"\n    Control UI: https://{name}:{port}/ (docs/quick-start.md says how to open it)", err=True)
    ask(
        name="Chat | One message",
        message=message,
        gateway=gateway.name,
        url=f"https://{name}:{port}/v1/chat/completions",
        token=TOKEN,
    )
