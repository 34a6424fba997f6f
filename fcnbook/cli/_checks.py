"""`fcnbook doctor`, `verify` and `bench`: what a file is, and whether it gives the published figures."""

from __future__ import annotations

import argparse

from fcnbook.cli._common import say
from fcnbook.files import InputError


def doctor_checkpoint(options: argparse.Namespace) -> int:
    """Say what a file of weights is and which recipes it fits; the word "checkpoint" before it may be left out."""
    files = options.words[1:] if options.words[0] == "checkpoint" else options.words
    if len(files) != 1:
        raise InputError(f"`fcnbook doctor checkpoint FILE` takes one file of weights, got {len(files)}.")
    from fcnbook.weights.doctor import doctor_checkpoint

    return doctor_checkpoint(files[0])


def verify_row(options: argparse.Namespace) -> int:
    """Score a published checkpoint by its own protocol, and judge it."""
    from fcnbook.reproduce.verify import verify

    report = verify(
        options.row,
        weights=options.weights,
        data_root=options.data_root,
        ms_flip=options.ms_flip,
        limit=options.limit,
        ignore_hash=options.ignore_hash,
        device=options.device,
        weights_folder=options.weights_folder,
        out=options.out,
        every=options.every,
    )
    say("", *report.text().split("\n"))
    return 1 if report.failed else 0


def bench_row(options: argparse.Namespace) -> int:
    """Measure speed and memory as the source of a row did."""
    from fcnbook.reproduce.bench import bench

    report = bench(
        options.row,
        data_root=options.data_root,
        images=options.images,
        repeats=options.repeats,
        memory=not options.no_memory,
        device=options.device,
        out=options.out,
        every=options.every,
    )
    say(*report.text().split("\n"))
    return 0
