"""pyinfra reads this file before the inventory. Arguments on the command line override it."""

from resource import RLIM_INFINITY, RLIMIT_NOFILE, getrlimit

from pyinfra import config

from tasks.engine.begin import begin

# If one host fails or cannot be reached, the run stops for all hosts, so that the others do not go on without it.
config.FAIL_PERCENT = 0
# All hosts at the same time, because the hosts do most of the work. pyinfra's default is 20 for each CPU of this
# computer, and it warns above a third of the number of files that a process may open.
files = getrlimit(RLIMIT_NOFILE)[0]
config.PARALLEL = 1000 if files == RLIM_INFINITY else max(1, min(1000, (files - 10) // 3))
begin()
