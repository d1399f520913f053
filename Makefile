# Two commands do everything on a fresh machine: `make demo` and `make test`.
# Every target is a script in scripts/, which says what it does and what it cannot install.

.DEFAULT_GOAL := help
.PHONY: help demo test bench install

help:
	@echo "make demo      build everything, then see it work: services come, go and die, the server is killed, nothing is missed"
	@echo "make test      everything CI checks: format, lints, all tests, the examples, the code in README and docs"
	@echo "make bench     measure puts, reads and watches, beside etcd if it is installed; writes docs/benchmarks.md"
	@echo "make install   build the optimised binary \`hither\` and put it into ~/.cargo/bin"
	@echo
	@echo "Not there yet: bench-sdk (the language bindings), chaos (three nodes), packages (Debian, containers)."
	@echo "The first run builds RocksDB, once per machine: about ten minutes on two cores. See CONTRIBUTING in README.md."

demo:
	@scripts/demo

test:
	@scripts/test

bench:
	@scripts/bench

install:
	@scripts/setup
	cargo install --locked --path cli
