# The front: every target is one command. `make demo` and `make check` are all that a new machine (Debian 12) needs.
#
#   make             builds the release preset in build/release
#   make demo        the wordcount job (examples/wordcount) [INPUT=dir] [KILL=1]
#   make check       all tests; the last line counts them
#   make bench       every figure [ONLY=prefix] [QUICK=1]; make growth: the pool's with 10^2, 10^4 and 10^6 live blocks, as a plot
#   make crash       every crash point; make torture MINUTES=n: random kills for a while; make models: all the models
#   make wheel       a manylinux wheel of the Python package in build/wheel
#   make python-long 10^5 rounds of whatever could leak in Python, and 1,500 kills; make pythons: every Python and numpy to be had
#   make fuzz        every fuzzer for MINUTES; make valgrind: memcheck over the tests of one thread
#   make install     [PREFIX=/usr/local] [DESTDIR=]
#   make setup       installs what is missing (Debian packages, a virtual environment in build/venv)
#   make format, make clean
SHELL := /bin/bash
.DEFAULT_GOAL := build
.PHONY: build setup demo check bench growth crash torture models python-long pythons fuzz valgrind wheel install format clean

PREFIX ?= /usr/local
JOBS ?= $(shell nproc)
MINUTES ?= 10
export BUILD := $(CURDIR)/build/release
export PYTHON := $(CURDIR)/build/venv/bin/python
export INPUT KILL ONLY QUICK

build:
	cmake --preset release
	cmake --build --preset release -j $(JOBS)

setup:
	cmake/setup all
	cmake/setup python

demo:
	cmake/setup demo
	$(MAKE) --no-print-directory build
	cmake/setup python
	examples/wordcount/run

check:
	cmake/setup all
	tests/run

bench:
	cmake/setup bench
	$(MAKE) --no-print-directory build
	cmake/setup python
	bench/run

growth:
	cmake/setup bench
	$(MAKE) --no-print-directory build
	cmake/setup python
	$(PYTHON) bench/growth.py

crash: build
	tests/crash/run --all

torture: build
	tests/crash/run --minutes $(MINUTES)

models:
	ALL=1 tests/models/run

python-long:
	cmake/setup python
	CUE_LEAK_ROUNDS=100000 CUE_KILLS=1500 tests/python/run -k "round or leak or opening or messages or killed_while"

pythons:
	cmake/setup python
	ALL=1 tests/pythons/run

wheel: build
	cmake/setup python
	cmake/wheel

fuzz:
	FUZZ_SECONDS=$$((60 * $(MINUTES))) tests/fuzz/run

valgrind: build
	tests/valgrind/run --all

install: build
	cmake --install build/release --prefix $(PREFIX)
	@if [ -z "$(DESTDIR)" ] && [ "$$(id -u)" = 0 ]; then ldconfig; fi

format:
	clang-format -i $$(git ls-files '*.c' '*.h')

clean:
	rm -rf build
