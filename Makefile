# Recipes that need more than one command.
PYTHON ?= python
SANITIZED := build/sanitize/_gru_kernel.so
FLAGS := -std=gnu11 -fPIC -shared -fvisibility=hidden -ffp-contract=fast -Wall -Wextra -Wno-psabi

.PHONY: sanitize

# The tests of the compiled GRU, with a kernel that stops at any access outside its arrays and at undefined behaviour.
# Python itself was not compiled with the sanitizer: its library is loaded first, and Python's own leaks are not counted.
sanitize:
	mkdir -p $(dir $(SANITIZED))
	$(CC) $(FLAGS) -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all \
		sb3_lwm/common/gru_kernel.c -o $(SANITIZED)
	ASAN_OPTIONS=detect_leaks=0 LD_PRELOAD="$$($(CC) -print-file-name=libasan.so) $$($(CC) -print-file-name=libubsan.so)" \
		SANITIZED_KERNEL=$(abspath $(SANITIZED)) $(PYTHON) -m pytest --capture=sys tests/common/test_gru_kernel.py
