"""Remove what the house has put on hosts: a role that a host no longer has, a host, one that is gone, or all.

Run: pyinfra inventory.py playbooks/remove.py --data role=ROLE --data on=HOST
     pyinfra inventory.py playbooks/remove.py --data everything=HOST, or everything=NAME-OF-THE-HOUSE
     pyinfra inventory.py playbooks/remove.py --data dead=HOST
With --dry it lists all that goes and changes nothing; with --data data=delete also what people may want goes.
"""

from tasks.engine.begin import asked_removal
from tasks.engine.house import check_reached, the_house
from tasks.removal import remove

check_reached()
remove(the_house(), asked_removal())
