# For a fresh machine with python3 (3.11 or newer) and make:
#   make demo    install, migrate, load demo data, serve on PORT (8000)
#   make run     the same without demo data
#   make test    install, run every test
PYTHON ?= python3
PORT ?= 8000
VENV := .venv
BIN := $(VENV)/bin
MANAGE := $(BIN)/python manage.py
TESTS ?= tests
ROUNDS ?= 3

.PHONY: help install demo run test bench faults lint format env-example requirements clean

help:
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 16

demo: $(VENV)/installed .env ## install, migrate, load demo data and serve (PORT=8000); FORCE=1 also into a DATABASE_URL
	@HTTPS=off $(MANAGE) serve --probe --port $(PORT)
	@HTTPS=off $(MANAGE) serve --probe --port $$(($(PORT) + 1))
	@HTTPS=off $(MANAGE) migrate --verbosity 0
	@HTTPS=off $(MANAGE) collectstatic --noinput --verbosity 0
	@HTTPS=off LOG_LEVEL=WARNING $(MANAGE) demo --base-url http://127.0.0.1:$(PORT) $(if $(FORCE),--force)
	@HTTPS=off $(MANAGE) fakesupplier --port $$(($(PORT) + 1)) --with-parent & \
	HTTPS=off WEBHOOK_LOOPBACK=on exec $(MANAGE) serve --port $(PORT)

run: $(VENV)/installed .env ## install, migrate and serve, without demo data (PORT=8000)
	@HTTPS=off $(MANAGE) serve --probe --port $(PORT)
	@HTTPS=off $(MANAGE) migrate --verbosity 0
	@HTTPS=off $(MANAGE) collectstatic --noinput --verbosity 0
	@HTTPS=off exec $(MANAGE) serve --port $(PORT)

test: $(VENV)/installed-dev .env ## run every test, or those of TESTS=tests/refills; COVERAGE=1 lists the lines that no test runs
	@$(MANAGE) collectstatic --noinput --verbosity 0
	$(BIN)/pytest --numprocesses=auto --dist=loadgroup --max-worker-restart=0 $(TESTS) $(if $(COVERAGE),--cov)

bench: $(VENV)/installed-dev .env ## measure on this machine, about ten minutes (needs wrk and redis-server; ROUNDS=3)
	@$(MANAGE) collectstatic --noinput --verbosity 0
	@$(BIN)/python -m tests.bench --rounds $(ROUNDS)

faults: $(VENV)/installed-dev .env ## kill, stop, freeze, lock and fill everything under load, in about five minutes (needs redis-server)
	@env -u DATABASE_URL $(BIN)/python -m tests.faults

lint: $(VENV)/installed-dev .env ## check style, types, imports, templates, settings, migrations and known vulnerabilities
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy .
	$(BIN)/lint-imports
	$(BIN)/djlint templates --lint --check --quiet
	DEBUG=off HTTPS=on $(MANAGE) check --deploy --fail-level WARNING
	$(MANAGE) makemigrations --check --dry-run
	DJANGO_SETTINGS_MODULE=tests.lint_settings LOG_LEVEL=WARNING $(MANAGE) lintmigrations
	@$(BIN)/python .ci/audit

format: $(VENV)/installed-dev ## format the code as lint requires
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/djlint templates --reformat --quiet || true  # it exits with 1 if it changed something

install: $(VENV)/installed .env ## make .venv and .env

env-example: $(VENV)/installed .env ## write .env.example from notpanel/settings.py
	@$(BIN)/python -c 'from pathlib import Path; from notpanel.settings import env; Path(".env.example").write_text(env.example())'

requirements: $(VENV)/installed-dev ## compile the pins from the ranges in pyproject.toml
	$(BIN)/uv pip compile --universal --no-strip-extras --python-version 3.11 --generate-hashes --quiet --no-header \
		pyproject.toml --output-file requirements.txt
	$(BIN)/uv pip compile --universal --no-strip-extras --python-version 3.11 --generate-hashes --quiet --no-header \
		pyproject.toml --group dev --constraint requirements.txt --output-file requirements-dev.txt

clean: ## remove what was installed; the data in var/ stays
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

# Run a command while no other make installs here: two may have been started. The kernel drops the lock of a dead one.
LOCK := $(PYTHON) -c 'import fcntl, os, sys; lock = os.open(".make.lock", os.O_CREAT | os.O_RDWR, 0o600); \
	os.set_inheritable(lock, True); fcntl.flock(lock, fcntl.LOCK_EX); os.execvp(sys.argv[1], sys.argv[1:])'
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes

$(BIN)/python:
	@[ -w . ] || { echo "$(CURDIR) cannot be written: run make as the user who owns it." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; name it: make PYTHON=python3.13" >&2; exit 1; }
	@$(LOCK) sh -c '[ -e $@ ] || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }'

$(VENV)/installed: requirements.txt | $(BIN)/python
	@$(LOCK) sh -c '[ $@ -nt $< ] || { $(PIP) -r $< && touch $@; }'

$(VENV)/installed-dev: requirements-dev.txt $(VENV)/installed
	@$(LOCK) sh -c '[ $@ -nt $< ] && [ $@ -nt $(VENV)/installed ] || { $(PIP) -r $< && touch $@; }'

.env: | .env.example
	@umask 077; $(PYTHON) -c 'import secrets; print("SECRET_KEY=" + secrets.token_urlsafe(50))' > $@
