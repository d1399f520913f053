# Two commands do everything on a fresh machine: `make demo` and `make test`.
# Every target is a script in scripts/, which says what it does and what it cannot install.

.DEFAULT_GOAL := help
.PHONY: help demo test bench bench-sdk chaos packages install

help:
	@echo "make demo      build everything, then see it work: services come, go and die, the server is killed, nothing is missed"
	@echo "make test      everything CI checks: format, lints, all tests, the examples, the code in README and docs"
	@echo "make bench     measure puts, reads and watches, beside etcd if it is installed; writes docs/benchmarks.md"
	@echo "make bench-sdk measure the Python and Node clients beside aetcd and etcd3, and the registry; writes docs/bench-sdk.md"
	@echo "make chaos     prove watches exact while connections are cut, the server is killed and history trimmed; catch every planted bug"
	@echo "make packages  build the wheels and npm packages of client and server into dist/, and try each in an empty project"
	@echo "make install   build the optimised binary \`hither\` and put it into ~/.cargo/bin"
	@echo
	@echo "Not there yet: chaos over three nodes, packages for Debian and containers."
	@echo "The first run builds RocksDB, once per machine: about ten minutes on two cores. See CONTRIBUTING in README.md."

demo:
	@scripts/demo

test:
	@scripts/test

bench:
	@scripts/bench

bench-sdk:
	@scripts/bench-sdk

chaos:
	@scripts/chaos

packages:
	@scripts/packages

install:
	@scripts/setup
	cargo install --locked --profile dist --path cli
