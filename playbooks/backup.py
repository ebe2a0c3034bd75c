"""Back the house up: what cannot be made again of coordinator and gateways, and the settings, encrypted for your keys.

Run: pyinfra -y inventory.py playbooks/backup.py [--data to=FOLDER]
"""

from pyinfra import host, inventory

from facts.ca import CaCertificate
from operations.backup.kept import fetched
from operations.backup.make import backup_of, begun, finished, part_made
from operations.engine.answers import ask
from operations.engine.barrier import barrier
from plan.engine.errors import SettingError
from plan.engine.stamp import PATH
from tasks.backup import deploy, roles_of
from tasks.devices import refuse
from tasks.drift import revision
from tasks.engine.hosts import this
from tasks.engine.house import check_reached, the_house
from tasks.openclaw import TOKEN

check_reached()
here, house = this(), the_house()
try:
    backup = backup_of(house, revision(), ask(inventory.get_host(house.coordinator.name), CaCertificate))
    if not here.profile.stamp:
        raise SettingError(f"host {host.name}: {PATH}", "missing", "a host that was deployed", "run the deployment")
except SettingError as error:
    refuse(error)
deploy(here)
barrier(name="Backup | Checked")
if here.has("coordinator"):
    begun(name="Backup | Begin", backup=backup)
barrier(name="Backup | Begun")
part_made(name="Backup | Parts of the hosts", backup=backup, roles=roles_of(here), token=TOKEN)
barrier(name="Backup | All parts are here")
if here.has("coordinator"):
    finished(name="Backup | End", backup=backup)
barrier(name="Backup | Whole")
if house.backup_every:
    fetched(name="Backup | Own ones of the hosts", backup=backup, folder=here.member.backup_folder)
