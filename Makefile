# The checks of CONTRIBUTING.md, under the names that Stable-Baselines3 gives them.
PYTHON ?= python
SANITIZED := build/sanitize/_gru_kernel.so
FLAGS := -std=gnu11 -fPIC -shared -fvisibility=hidden -ffp-contract=fast -Wall -Wextra -Wno-psabi

.PHONY: pytest slow type lint format check-codestyle commit-checks docs sanitize

pytest:
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest -n 2 tests

slow:
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest -n 2 -m slow tests

type:
	mypy

lint:
	ruff check
	lint-imports

format:
	ruff check --select I --fix
	ruff format

check-codestyle:
	ruff check --select I
	ruff format --check

commit-checks: format type lint docs

docs:
	$(PYTHON) -m sphinx -W --keep-going -b html docs docs/_build/html

# The tests of the compiled GRU, with a kernel that stops at any access outside its arrays and at undefined behaviour.
# Python itself was not compiled with the sanitizer: its library is loaded first, and Python's own leaks are not counted.
sanitize:
	mkdir -p $(dir $(SANITIZED))
	$(CC) $(FLAGS) -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all \
		sb3_lwm/common/gru_kernel.c -o $(SANITIZED)
	ASAN_OPTIONS=detect_leaks=0 LD_PRELOAD="$$($(CC) -print-file-name=libasan.so) $$($(CC) -print-file-name=libubsan.so)" \
		SANITIZED_KERNEL=$(abspath $(SANITIZED)) $(PYTHON) -m pytest --capture=sys tests/common/test_gru_kernel.py
