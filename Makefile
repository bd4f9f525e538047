# `make` lists what there is; the text behind ## is the description.
PYTHON ?= python

.DEFAULT_GOAL := help
.PHONY: help check tiny format lint types test test-full docs digits ci gallery

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

check: lint types test ## everything that has to pass: format, lint, types, tests

tiny: ## the first tests to run: a few seconds
	$(PYTHON) -m pytest tests/test_tiny.py

format: ## write the code in its format
	$(PYTHON) -m ruff format .
	$(PYTHON) -m ruff check --fix .

lint: ## format and lint, changing nothing
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m ruff check .

types: ## strict types
	$(PYTHON) -m mypy

test: ## all tests
	$(PYTHON) -m pytest -n auto

test-full: ## all tests, with every case of which `test` tries a sample; PyTorch's too, where it is installed
	LOOPGRAD_FULL=1 $(PYTHON) -m pytest -n auto

docs: ## the examples of the documentation
	$(PYTHON) -m pytest tests/docs

gallery: ## write docs/gallery, the pages of the library
	$(PYTHON) -m loopgrad.gallery docs/gallery

digits: ## train on real images
	$(PYTHON) -m loopgrad train digits

ci: ## what the continuous integration runs, in a new virtual environment
	.ci/run
