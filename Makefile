# Thin: every target is a line or two. `make` alone lists them.
SHELL := /bin/bash
PYTHON := .venv/bin/python
PYINFRA := .venv/bin/pyinfra
PYTEST := .venv/bin/pytest
TOPOLOGY ?= single
INVENTORY ?= $(if $(filter split,$(TOPOLOGY)),inventory_split.py,inventory.py)
MESSAGE ?= What is the capital of France?
export TOPOLOGY INVENTORY MESSAGE

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | column -t -s "$$(printf '\t')"

demo:  ## a whole house on virtual hosts of this machine, and an answer from its model
	@lab/demo

test: .venv/ready  ## style, types, unit tests, then whole runs in labs
	@lab/prepare --browser
	@tests/run

breakages: prepare  ## break things in labs, one at a time, and see that the verification says so
	@$(PYTEST) tests/lab/test_breakages.py --breakages all

beside: prepare  ## a house beside a real nginx, ufw and Docker and an older Ollama's models
	@$(PYTEST) tests/lab/test_neighbours.py

lab: prepare  ## bring the virtual hosts up (TOPOLOGY=single|split)
	@$(PYTHON) -m lab up

down:  ## remove the virtual hosts and everything of theirs from this machine
	@$(PYTHON) -m lab down

deploy: .venv/ready  ## pyinfra INVENTORY deploy.py, with progress and without a question
	@$(PYINFRA) -y $(INVENTORY) deploy.py

verify: .venv/ready  ## walk every allowed way and try every forbidden one
	@$(PYTEST) tests/verify --inventory $(INVENTORY)

chat: .venv/ready  ## send MESSAGE="..." from a client and print the answer
	@$(PYINFRA) -y $(INVENTORY) playbooks/chat.py --data message="$$MESSAGE"

prepare: .venv/ready  ## Debian packages, programs, image, model: all that demo and test need
	@lab/prepare

lint: .venv/ready  ## style and types
	@.venv/bin/ruff check . && .venv/bin/ruff format --check . && .venv/bin/mypy

unit: .venv/ready  ## tests without hosts
	@$(PYTEST) tests/unit

lock: .venv/ready  ## write requirements*.txt anew from requirements*.in
	@lab/lock

.venv/ready: requirements.txt requirements-dev.txt lab/bootstrap
	@lab/bootstrap

.PHONY: help demo test breakages beside lab down deploy verify chat prepare lint unit lock
