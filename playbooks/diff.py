"""Show the drift of each host: what a deployment would change now. It plans the deployment and changes nothing.

Run: pyinfra inventory.py playbooks/diff.py [--limit HOST] [--data json=true]
Exit status: 0 nothing differs, 1 something differs, 2 and more: the run could not find it out.
"""

from pyinfra import local

from tasks.drift import tell
from tasks.engine.hosts import this

local.include("deploy.py")
tell(this())
