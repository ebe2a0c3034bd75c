"""Go back to the version of a program from before its last upgrade, with its files and its data of then.

Run: pyinfra inventory.py playbooks/go_back.py --data program=PROGRAM [--data on=HOST]
It first says what is lost by that. With --dry it only says so.
"""

from tasks.engine.begin import asked_way_back
from tasks.engine.hosts import this
from tasks.engine.house import check_reached
from tasks.upgrade.going_back import go_back

check_reached()
go_back(this(), asked_way_back())
