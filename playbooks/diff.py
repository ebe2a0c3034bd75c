"""What differs on each host from what would be deployed. Plans the deployment and changes nothing.

Run: pyinfra inventory.py playbooks/diff.py [--limit HOST] [--data json=true]
Exit status: 0 nothing differs, 1 something does, 2 and more: it could not be found out.
"""

from pyinfra import local

from tasks.drift import tell
from tasks.engine.hosts import this

local.include("deploy.py")
tell(this())
