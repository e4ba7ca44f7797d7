# Each target is one line that also runs without make: python tools/dev.py TARGET
# The small CPU build of torch: PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu make setup
PYTHON ?= $(firstword $(foreach v,3.11 3.12 3.10,$(shell python$(v) --version >/dev/null 2>&1 && echo python$(v))) python3)

.PHONY: demo test mutants matrix spaces bench bench-quick bench-detection bench-hosts bench-gpu api screenshots serve setup lint format clean
demo test mutants matrix spaces bench bench-quick bench-detection bench-hosts bench-gpu api screenshots serve setup lint format clean:
	@$(PYTHON) tools/dev.py $@ $(ARGS)
