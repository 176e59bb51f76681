# Everything happens inside this folder: .venv for Python, frontend/node_modules for the page. No root, nothing global.
PYTHON ?= python3
NPM    ?= npm
BIN    := .venv/bin
ARGS   ?=
# So many modules of tests run beside each other: twice as many as two cores, as tests wait for processes half of the
# time. Those marked "alone" run after them.
AT_ONCE ?= 4
PIP    := $(BIN)/python -m pip --disable-pip-version-check
# The locks are whole, so nothing is resolved; bytecode is made as it is needed. Both together halve an installation.
LOCKED := $(PIP) install --quiet --no-compile --no-deps --require-hashes
UV     := uv==0.13.9
# Where it is set, as it is in containers, every test process and every gateway would compile everything anew.
unexport PYTHONDONTWRITEBYTECODE
CAMPAIGNS := kills|hostile|fuzz|requests|ledger|doors|churn|builds|soak|failover|cluster|moving|upgrade|memory
ALONE   = $(shell grep -rl --include='test_*.py' 'mark\.alone' tests)

.DEFAULT_GOAL := help
.PHONY: help run cluster test ready quick check types lint compiled page-check page agents bench campaign clean tools dist sbom prices lock

help:
	@echo "make run     install and start the gateway and its page (ARGS='--port 9000 --open')"
	@echo "make cluster   three gateways on a PostgreSQL of their own behind a balancer, to look at (ARGS='--port 9000')"
	@echo "make quick   lint, types, and the tests that need no process of their own: three minutes"
	@echo "make test    everything: lint, types, unit to browser tests, test-sessions.sh"
	@echo "make check   lint and types only"
	@echo "make dist    a wheel with the page inside, to install without Node"
	@echo "make prices  the prices of models that come with the program, made anew (gateway/models/prices.json)"
	@echo "make sbom    what it is made of, as CycloneDX (build/sbom.cdx.json)"
	@echo "make lock    the lock files anew from pyproject.toml (ARGS=--upgrade: newer versions)"
	@echo "make bench   the benchmarks (see benchmarks/README.md)"
	@echo "make agents  nine agents tried behind the gateway; writes the table of docs/agents.md (ARGS='--only codex')"
	@echo "make campaign NAME=$(CAMPAIGNS)   the long campaigns; of most of them make test runs a small form"
	@echo "make clean   remove what was installed and built"

run: .venv/.runs frontend/dist/index.html
	@exec $(BIN)/python -m gateway serve $(ARGS)

cluster: .venv/.tests frontend/dist/index.html
	@exec $(BIN)/python -m tests.cluster $(ARGS)

# What does not depend on each other is installed and checked two at a time. test-sessions.sh is run by a test.
test:
	@$(MAKE) --no-print-directory --jobs=2 --output-sync ready check compiled page-check
	$(BIN)/python -m pytest --cache-clear -n $(AT_ONCE) --dist loadfile --no-loadscope-reorder -m "not alone" $(PYTEST) \
	  || $(BIN)/python -m tests.again $$?
	$(BIN)/python -m pytest -m alone $(or $(PYTEST),$(ALONE)) || [ $$? -eq 5 ]  # 5: none was asked for

ready: .venv/.tests frontend/dist/index.html tests/mcp/node_modules/.installed tests/browser/node_modules/.installed

quick: .venv/.tests
	@$(MAKE) --no-print-directory --jobs=2 --output-sync check compiled
	$(BIN)/python -m pytest -n $(AT_ONCE) --dist loadfile -m "not alone" tests/unit tests/contract tests/gateway $(PYTEST)

check: types lint

types: .venv/.tests
	$(BIN)/mypy

lint: .venv/.tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache

# The tests are compiled once, not in each of the processes that run them; what is wrong with one is said by those.
compiled: .venv/.tests
	@$(BIN)/python -m pytest --collect-only -qq >/dev/null 2>&1 || true

page-check: frontend/dist/index.html
	cd frontend && $(NPM) run --silent typecheck && $(NPM) run --silent test

page: frontend/dist/index.html

campaign: .venv/.tests
	@case "$(NAME)" in \
	  kills)   exec $(BIN)/python -m tests.torture --kills 200 --sessions 12 --seconds 900 $(ARGS) ;; \
	  hostile) exec $(BIN)/python -m tests.hostile --seconds 600 $(ARGS) ;; \
	  fuzz)    exec $(BIN)/python -m tests.fuzz.agent_lines --seconds 3600 $(ARGS) ;; \
	  requests) FUZZ_EXAMPLES=200 exec $(BIN)/python -m pytest tests/fuzz/test_schemathesis.py $(ARGS) ;; \
	  ledger)  exec $(BIN)/python -m tests.ledger --turns 1000 --seconds 900 $(ARGS) ;; \
	  doors)   exec $(BIN)/python -m tests.flood $(ARGS) ;; \
	  churn)   exec $(BIN)/python -m benchmarks.churn $(ARGS) ;; \
	  soak)    exec $(BIN)/python -m tests.soak $(ARGS) ;; \
	  builds)  exec $(BIN)/python -m tests.builds $(ARGS) ;; \
	  failover) exec $(BIN)/python -m tests.failover --rounds 20 $(ARGS) ;; \
	  cluster) exec $(BIN)/python -m tests.torture.cluster --kills 100 --pauses 300 --seconds 3600 $(ARGS) ;; \
	  moving)  exec $(BIN)/python -m tests.moving $(ARGS) ;; \
	  upgrade) exec $(BIN)/python -m tests.torture.upgrade $(ARGS) ;; \
	  memory)  exec $(BIN)/python -m tests.memory_wall --seconds 600 $(ARGS) ;; \
	  *) echo "make campaign NAME=$(CAMPAIGNS) (ARGS='--seconds 60')" >&2; exit 2 ;; \
	esac

agents: .venv/.tests
	$(BIN)/python -m tests.agent_matrix $(ARGS)

bench: .venv/.tests
	$(BIN)/python -m benchmarks.run $(ARGS)

clean:
	rm -rf .venv .cache build dist frontend/node_modules frontend/dist tests/mcp/node_modules tests/browser/node_modules

# Installed and started without Node; without bytecode, which is made as it is needed.
dist: .venv/.runs frontend/dist/index.html
	@rm -rf dist
	@$(PIP) wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .
	@cp requirements.txt dist/
	@ls dist/*.whl
	@echo "to install it:  python3 -m venv /opt/agent-gateway"
	@echo "                /opt/agent-gateway/bin/pip install --no-compile --no-deps --require-hashes -r dist/requirements.txt"
	@echo "                /opt/agent-gateway/bin/pip install --no-compile --no-deps dist/*.whl"

sbom: .venv/.runs
	@mkdir -p build
	@$(BIN)/python deploy/sbom.py > build/sbom.cdx.json
	@echo build/sbom.cdx.json

lock: .cache/lock/.installed
	@.cache/lock/bin/python deploy/lock.py $(ARGS)

# The prices of models that come with the program, from genai-prices; looked over and committed before a release.
prices: .cache/prices/.installed
	@.cache/prices/bin/python deploy/prices.py

# -- set-up ---------------------------------------------------------------------------------------------------

tools:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	  || { echo "Python 3.11 or newer is needed: install it, or say make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null \
	  || { echo "Python's venv is needed: on Debian, apt install python3-venv" >&2; exit 1; }
	@node -e 'const [a, b] = process.versions.node.split("."); process.exit(a > 20 || (a == 20 && b >= 19) ? 0 : 1)' 2>/dev/null \
	  || { echo "Node 20.19 or newer is needed: https://nodejs.org" >&2; exit 1; }
	@command -v $(NPM) >/dev/null || { echo "npm is needed: it comes with Node" >&2; exit 1; }

.venv/.runs: pyproject.toml requirements.txt deploy/requirements-build.txt | tools
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "installing the gateway into .venv"
	@$(LOCKED) --requirement requirements.txt --requirement deploy/requirements-build.txt
	@AGENT_GATEWAY_SKIP_PAGE=1 $(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

.venv/.tests: requirements-dev.txt .venv/.runs
	@echo "installing the test tools into .venv"
	@$(BIN)/python -m tests.filling --no-deps --require-hashes --requirement requirements-dev.txt
	@touch $@

frontend/node_modules/.installed: frontend/package.json frontend/package-lock.json | tools
	@echo "installing the page's tools into frontend/node_modules"
	@cd frontend && $(NPM) ci --silent --no-audit --no-fund
	@touch $@

tests/mcp/node_modules/.installed: tests/mcp/package.json tests/mcp/package-lock.json | tools
	@echo "installing MCP clients for the tests into tests/mcp/node_modules"
	@cd tests/mcp && $(NPM) ci --silent --no-audit --no-fund
	@touch $@

tests/browser/node_modules/.installed: tests/browser/package.json tests/browser/package-lock.json | tools
	@echo "installing a Chromium for the tests into tests/browser/node_modules"
	@cd tests/browser && $(NPM) ci --silent --no-audit --no-fund
	@touch $@

.cache/lock/.installed: | tools
	@test -x .cache/lock/bin/python || $(PYTHON) -m venv .cache/lock
	@.cache/lock/bin/python -m pip install --quiet --disable-pip-version-check $(UV)
	@touch $@

.cache/prices/.installed: deploy/prices.py | tools
	@test -x .cache/prices/bin/python || $(PYTHON) -m venv .cache/prices
	@.cache/prices/bin/python -m pip install --quiet --disable-pip-version-check --upgrade genai-prices
	@touch $@

frontend/dist/index.html: frontend/node_modules/.installed frontend/index.html frontend/inbox.html frontend/demo.html frontend/vite.config.ts frontend/vite.widget.config.ts frontend/vite.pdf.config.ts frontend/vite.diagram.config.ts frontend/vite.onefile.ts frontend/compress.mjs $(shell find frontend/src -type f 2>/dev/null)
	@echo "building the page"
	@cd frontend && $(NPM) run --silent build
	@touch $@
