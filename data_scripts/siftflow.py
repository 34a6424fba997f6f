"""Fetch SIFT Flow, convert its labels to PNG and check it, so that recipes find it in data/siftflow.

python data_scripts/siftflow.py                                      from the network, 140 MB
python data_scripts/siftflow.py --from ~/SiftFlowDataset.zip         from the archive
python data_scripts/siftflow.py --dest ~/siftflow                    a folder that holds Images/, prepared in place
"""

import argparse
import sys
from pathlib import Path

from fcnbook.data.siftflow import prepare
from fcnbook.files import InputError


def main() -> int:
    """Prepare the data set; 0, or 1 with a sentence that says why not."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--from", dest="source", type=Path, help="SiftFlowDataset.zip")
    parser.add_argument(
        "--dest", "--root", type=Path, default=Path("data/siftflow"), help="folder to fill (data/siftflow)"
    )
    arguments = parser.parse_args()
    try:
        reports = prepare(arguments.source, arguments.dest)
    except InputError as error:
        print(error, file=sys.stderr)
        return 1
    print(*reports, sep="\n")
    print(f"\nReady. Next:\n  fcnbook run fcn32s_vgg16_siftflow --scale tiny --data-root {arguments.dest}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
