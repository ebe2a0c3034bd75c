"""The demo's virtual hosts in topology `split`: each server role has a host of its own. See inventory.py."""

from lab.hosts import lab_host as _lab_host

coordinator = [_lab_host("hub")]
gateway = [_lab_host("gate")]
model_hosts = [_lab_host("brain")]
clients = [_lab_host("laptop")]
