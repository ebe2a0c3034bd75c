# Thin: every target is a line or two. `make` alone lists them.
SHELL := /bin/bash
PYTHON := .venv/bin/python
PYINFRA := .venv/bin/pyinfra
PYTEST := .venv/bin/pytest
TOPOLOGY ?= single
MESSAGE ?= What is the capital of France?
# As they were typed: make would expand a dollar in them, and run what stands in $(shell ...).
override TOPOLOGY := $(value TOPOLOGY)
override MESSAGE := $(value MESSAGE)
override TO := $(value TO)
override FROM := $(value FROM)
override IDENTITY := $(value IDENTITY)
override ROLE := $(value ROLE)
override INVENTORY := $(or $(value INVENTORY),$(if $(filter split pair,$(TOPOLOGY)),inventory_$(TOPOLOGY).py,inventory.py))
export TOPOLOGY INVENTORY MESSAGE TO FROM IDENTITY ROLE

help:  ## this list
	@awk '/^##@/ { print "\n" substr($$0, 5) } /^[a-z-]+:.*##/ { split($$0, part, ":.*## "); printf "  %-14s %s\n", part[1], part[2] }' $(MAKEFILE_LIST)

##@ Your house

deploy: .venv/ready  ## pyinfra INVENTORY deploy.py, with progress and without a question
	@$(PYINFRA) -y -- "$$INVENTORY" deploy.py

diff: .venv/ready  ## what differs on each host from what would be deployed; changes nothing
	@$(PYINFRA) -- "$$INVENTORY" playbooks/diff.py

verify: .venv/ready  ## walk every allowed way and try every forbidden one
	@$(PYTEST) tests/verify --inventory="$$INVENTORY"

status: .venv/ready  ## how every host is, by its own last look, in one table
	@$(PYINFRA) -y -- "$$INVENTORY" playbooks/status.py

backup: .venv/ready  ## what cannot be made again, encrypted, into the folder backups, or TO=FOLDER
	@$(PYINFRA) -y $${TO:+--data to="$$TO"} -- "$$INVENTORY" playbooks/backup.py

backup-key: .venv/ready  ## make the pair of keys for backups; IDENTITY=FILE is the private one
	@$(PYINFRA) -y $${IDENTITY:+--data identity="$$IDENTITY"} -- "$$INVENTORY" playbooks/backup_key.py

backup-check: .venv/ready  ## try the newest backup, or FROM=FOLDER, with the private key in IDENTITY=FILE
	@$(PYINFRA) -y $${IDENTITY:+--data identity="$$IDENTITY"} $${FROM:+--data from="$$FROM"} -- "$$INVENTORY" playbooks/backup_check.py

restore: .venv/ready  ## the newest backup, or FROM=FOLDER, onto bare hosts; ROLE=coordinator or gateway for one of the two
	@$(PYINFRA) $${IDENTITY:+--data identity="$$IDENTITY"} $${FROM:+--data from="$$FROM"} $${ROLE:+--data role="$$ROLE"} -- "$$INVENTORY" playbooks/restore.py

rehearse: prepare  ## restore the newest backup, or FROM=FOLDER, into virtual hosts, verify it there, send a message
	@$(PYINFRA) -y $${IDENTITY:+--data identity="$$IDENTITY"} $${FROM:+--data from="$$FROM"} -- "$$INVENTORY" playbooks/rehearse.py

chat: .venv/ready  ## send MESSAGE="..." from a client and print the answer
	@$(PYINFRA) -y --data message="$$MESSAGE" -- "$$INVENTORY" playbooks/chat.py

##@ Virtual hosts

demo:  ## a whole house on virtual hosts of this machine, and an answer from its model
	@lab/demo

lab: prepare  ## bring the virtual hosts up (TOPOLOGY=single|split|pair)
	@$(PYTHON) -m lab up

down:  ## remove the virtual hosts and everything of theirs from this machine
	@$(PYTHON) -m lab down

why: .venv/ready  ## journals, rules and states of the virtual hosts, to see why something failed
	@$(PYTHON) -m lab why

prepare: .venv/ready  ## Debian packages, programs, image, model: all that demo and test need
	@lab/prepare

##@ Tests, from short to long

check: .venv/ready  ## style, types, tests without hosts: before every commit
	@tests/check

lint: .venv/ready  ## style and types
	@.venv/bin/ruff check . && .venv/bin/ruff format --check . && .venv/bin/mypy

unit: .venv/ready  ## tests without hosts
	@$(PYTEST) tests/unit

test: .venv/ready  ## style, types, unit tests, then whole runs in labs
	@lab/prepare --browser
	@tests/run

fuzz: .venv/ready  ## the tests with hostile input, with a hundred times as many cases, others each time
	@HYPOTHESIS_PROFILE=long $(PYTEST) tests/unit -k hostile

beside: prepare  ## a house beside a real nginx, ufw and Docker and an older Ollama's models
	@$(PYTEST) tests/lab/test_neighbours.py

removal: prepare  ## take houses and parts of them away again, and see that hosts are as they were before
	@$(PYTEST) tests/lab/test_removal.py

restores: prepare  ## lose hosts of houses in several ways, and see that they come back from their backups
	@lab/prepare --browser
	@$(PYTEST) tests/lab/test_restores.py -s

renewal: prepare  ## three years without a person, and new keys for all, with messages sent all the time
	@$(PYTEST) tests/lab/test_renewal.py tests/lab/test_rotation.py -s

lived-in: prepare  ## the quick start on hosts as households have them, five times in each of two topologies
	@$(PYTEST) tests/lab/test_lived_in.py --households 5 -s

upgrades: prepare  ## upgrades between real versions, and broken ones that hosts take back by themselves
	@$(PYTHON) -m tests.lab.versions
	@$(PYTEST) tests/lab/test_upgrade.py --upgrades all -s

interruptions: prepare  ## cut runs off at each of their steps, and see that the next one finishes them
	@$(PYTEST) tests/lab/test_interruptions.py --interruptions all -s

breakages: prepare  ## break things in labs, one at a time, and see that the verification says so
	@$(PYTEST) tests/lab/test_breakages.py --breakages all

bench: prepare  ## measure what docs/speed.md promises, into bench/results.json
	@$(PYTHON) -m bench

##@ Upkeep

lock: .venv/ready  ## write requirements*.txt anew from requirements*.in
	@lab/lock

.venv/ready: requirements.txt requirements-dev.txt lab/bootstrap
	@lab/bootstrap

.PHONY: help deploy diff verify status backup backup-key backup-check restore rehearse chat demo lab down why prepare check lint unit test fuzz beside removal renewal restores lived-in upgrades interruptions breakages bench lock
