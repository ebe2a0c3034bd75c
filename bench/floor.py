"""The shortest possible run: pyinfra starts, connects, and runs `true` on each host.

Run: pyinfra --config none -y inventory.py bench/floor.py
"""

from pyinfra.operations import server

server.shell(name="True", commands=["true"])
