"""pyinfra reads this file before the inventory. Arguments on the command line win over it."""

from pyinfra import config

from tasks.run import begin

# One host that fails or cannot be reached stops the run before the others go on without it.
config.FAIL_PERCENT = 0
begin()
