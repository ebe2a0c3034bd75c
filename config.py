"""pyinfra reads this file before the inventory. Arguments on the command line win over it."""

from resource import RLIM_INFINITY, RLIMIT_NOFILE, getrlimit

from pyinfra import config

from tasks.engine.begin import begin

# One host that fails or cannot be reached stops the run before the others go on without it.
config.FAIL_PERCENT = 0
# All hosts at the same time: what takes long is done on them. pyinfra itself takes 20 for each CPU of this computer,
# and warns beyond a third of the files that a process may open.
files = getrlimit(RLIMIT_NOFILE)[0]
config.PARALLEL = 1000 if files == RLIM_INFINITY else max(1, min(1000, (files - 10) // 3))
begin()
